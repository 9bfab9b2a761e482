"""The host splits a block of the engine, to have its frames one by one."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="the record of the block says that it is the engine's",
    removed=removals.BLOCK_RECORD,
)
def carry_out(arena: Arena) -> None:
    for name, frame in arena.engine_frames.items():
        answer = arena.status("host_split", block=frame & -BLOCK, table=arena.take())
        assert answer == "NOT_OWNED", f"the block with {name} is split for the host"
