"""The host zeroes a page of a VM by `DC ZVA`, a cache instruction that writes."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.aborts(f"ldr x0, ={victim.page:#x}\n dc zva, x0", "DC ZVA on a VM's page")
