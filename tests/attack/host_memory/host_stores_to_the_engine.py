"""The host overwrites the code, the records and the tables of the engine."""

from contextlib import suppress

from attack.arena import Arena
from attack.removals import ENGINE_BLOCKS
from bulkhead.attack import attack
from bulkhead.conformance import HostFault


@attack(
    by="host",
    against="P5",
    refused="the engine's blocks are not in the host's stage 2",
    removed=ENGINE_BLOCKS,
)
def carry_out(arena: Arena) -> None:
    for name, frame in arena.engine_frames.items():
        before = arena.machine.physical(frame, 16)
        with suppress(HostFault):
            arena.host(f"ldr x0, ={frame:#x}\n mov x1, #0x5a5a\n str x1, [x0, #8]")
        assert arena.machine.physical(frame, 16) == before, f"the host has overwritten {name}"
        arena.unreachable(frame, name)
