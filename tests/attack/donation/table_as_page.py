"""The host maps the translation table of a VM into a VM, which then maps for itself whatever it wants."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="several",
    against="P7",
    refused="the ownership record of the frame says that it is a table",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for name, table in {"the root": victim.vm.root, **victim.vm.tables}.items():
        assert arena.map(victim.slot, RAM + 7 * PAGE, table) == "NOT_OWNED", f"{name} is a page of the VM now"
