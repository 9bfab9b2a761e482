"""The host maps one of its own pages into a VM by writing to the translation tables that it gave."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P7",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for name, table in {"root": victim.vm.root, **victim.vm.tables}.items():
        arena.unreachable(table + 8, f"table {name} of a VM")
