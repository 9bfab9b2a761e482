"""The host maps the engine for itself by writing to its own level 3 table, which it gave for a split."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.inspect.records import Kind


@attack(
    by="host",
    against="P7",
    refused="host_split takes the frame of the table out of the host's stage 2",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    donated = arena.take()
    block = arena.machine.blocks(Kind.HOST)[-1]
    arena.machine.ok("host_split", block=block, table=donated)
    arena.unreachable(donated, "the host's own table")
    arena.unreachable(arena.machine.layout.split_block, "the table of the first split block")
