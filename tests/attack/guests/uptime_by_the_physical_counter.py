"""A VM reads the physical counter, which no offset hides."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="CNTPCT_EL0 traps and reads as the virtual count",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "pub const CNTHCTL_VM: u64 = 0;",
        "pub const CNTHCTL_VM: u64 = 3;",
    ),
)
def carry_out(arena: Arena) -> None:
    before = arena.ticks()
    counted = arena.victim("mrs x0, cntpct_el0\n report x0").reports()[0]
    alive = arena.ticks() - before
    assert counted <= alive, f"a VM that has been there for {alive} ticks counts {counted}"
