"""The host maps the context of a vCPU into a VM, which then writes its own VTTBR_EL2."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="several",
    against="P7",
    refused="the ownership record of the frame says that it is a vCPU",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.map(victim.slot, RAM + 7 * PAGE, victim.context)
    assert answer == "NOT_OWNED", "a VM has the context of its own vCPU as a page"
