"""The host overwrites the code, the records and the tables of the engine."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="the engine's blocks are not in the host's stage 2",
)
def carry_out(arena: Arena) -> None:
    for name, frame in arena.engine_frames.items():
        arena.unreachable(frame, name)
