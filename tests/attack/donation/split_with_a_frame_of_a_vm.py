"""The host names a page of a VM as its own new table."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.inspect.records import Kind


@attack(
    by="host",
    against="P5",
    refused="the ownership record of the frame says that it is a page",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = arena.machine.blocks(Kind.HOST)[-1]
    answer = arena.status("host_split", block=block, table=victim.page)
    assert answer == "NOT_OWNED", "a page of a VM has become the host's table"
