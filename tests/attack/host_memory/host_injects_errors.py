"""The host lets the CPU's error records report, or make, errors in memory that is not its own."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

REGISTERS = {"ERRIDR_EL1": "S3_0_C5_C3_0", "ERRSELR_EL1": "S3_0_C5_C3_1", "ERXCTLR_EL1": "S3_0_C5_C4_1"}
"""RAS records of the CPU (Arm ARM DDI 0487, D19.8)."""


@attack(
    by="host",
    against="P5",
    refused="the registers of error records trap and are UNDEFINED",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "| hcr::DC | registers::HCR_HOST;",
        "| hcr::DC | registers::HCR_HOST & !(1 << 36);  // TERR",
    ),
)
def carry_out(arena: Arena) -> None:
    for name, register in REGISTERS.items():
        arena.undefined(f"mrs x0, {register}\n result 0, x0", f"a read of {name}")
    handler = "mrs x0, esr_el1\n lsr x0, x0, #26\n report x0"
    victim = arena.victim(f"mov x0, #0xbad\n mrs x0, {REGISTERS['ERRIDR_EL1']}\n report x0", handler=handler)
    assert victim.reports() == [0], "a VM reads the CPU's error records"
