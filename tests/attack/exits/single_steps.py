"""The host steps a VM instruction by instruction with its own debug registers."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the debug registers trap",
    source="single-stepping, as SGX-Step, SysTEX 2017",
    removed=Edit("engine/arch/src/registers.rs", "    | 1 << 9 // TDA\n", ""),
)
def carry_out(arena: Arena) -> None:
    arena.victim()
    for register in ("mdscr_el1", "dbgbvr0_el1", "dbgbcr0_el1", "dbgwvr0_el1", "dbgwcr0_el1"):
        arena.undefined(f"mov x0, #1\n msr {register}, x0", f"a write of {register}")
