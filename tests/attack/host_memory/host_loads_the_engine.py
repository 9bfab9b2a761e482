"""The host reads the code, the records and the tables of the engine."""

from attack.arena import Arena
from attack.removals import ENGINE_BLOCKS
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="the engine's blocks are not in the host's stage 2",
    removed=ENGINE_BLOCKS,
)
def carry_out(arena: Arena) -> None:
    for name, frame in arena.engine_frames.items():
        arena.aborts(f"ldr x0, ={frame:#x}\n ldr x1, [x0]", f"a load from {name}")
