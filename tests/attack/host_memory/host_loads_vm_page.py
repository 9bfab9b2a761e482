"""The host loads from a page of a VM."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.aborts(f"ldr x0, ={victim.page:#x}\n ldr x1, [x0]", "a load from a VM's page")
