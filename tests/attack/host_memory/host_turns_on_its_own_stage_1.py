"""The host turns on a stage 1 of its own, to give pages of others another type or to confuse a walk."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P7",
    refused="writes of its translation registers trap and are UNDEFINED",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "pub const HOST_HCR: u64 = hcr::COMMON | hcr::DC | hcr::TVM | hcr::TRVM | hcr::TID2;",
        "pub const HOST_HCR: u64 = hcr::COMMON | hcr::DC | hcr::TRVM | hcr::TID2;",
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
