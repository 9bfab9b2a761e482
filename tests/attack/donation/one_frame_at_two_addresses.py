"""The host maps one frame at two addresses of a VM, so that the VM overwrites one page through the other."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P5",
    refused="the ownership record of the frame says that it is a page already",
    source="aliasing, as in SEVered, EuroSec 2018",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    assert arena.map(victim.slot, RAM + 7 * PAGE, victim.page) == "NOT_OWNED", "a page has two addresses"
