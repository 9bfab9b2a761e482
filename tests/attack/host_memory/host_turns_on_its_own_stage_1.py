"""The host turns on a stage 1 of its own, to give pages of others another type or to confuse a walk."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P7",
    refused="writes of its translation registers trap and are UNDEFINED",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "    | 1 << 26 // TVM\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    for register in (
        "ttbr0_el1",
        "ttbr1_el1",
        "tcr_el1",
        "mair_el1",
        "sctlr_el1",
        "contextidr_el1",
        "amair_el1",
    ):
        arena.undefined(f"msr {register}, xzr", f"a write of {register}")
