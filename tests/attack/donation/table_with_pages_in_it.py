"""The host takes back a table that still maps pages of a VM."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="a table goes back only when all its entries are empty",
    removed=Edit(
        "engine/core/src/call/table_reclaim.rs",
        "if !hw.table_is_empty(table) {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for name, table in victim.vm.tables.items():
        answer = arena.status("table_reclaim", table=table)
        assert answer == "NOT_EMPTY", f"the host has taken table {name} of a living VM"
