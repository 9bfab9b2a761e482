"""The host changes what the CPU does by IMPLEMENTATION DEFINED registers: no coherency, other errata."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

REGISTERS = {
    "CPUACTLR_EL1": "S3_0_C15_C1_0",
    "CPUACTLR2_EL1": "S3_0_C15_C1_1",
    "CPUECTLR_EL1": "S3_0_C15_C1_4",
    "CPUPWRCTLR_EL1": "S3_0_C15_C2_7",
    "CLUSTERECTLR_EL1": "S3_0_C15_C3_4",
}
"""Of Neoverse N1 (Arm 100616, B2.1)."""


@attack(
    by="host",
    against="P7",
    refused="IMPLEMENTATION DEFINED registers trap and are UNDEFINED",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "| hcr::DC | registers::HCR_HOST;",
        "| hcr::DC | registers::HCR_HOST & !(1 << 20);  // TIDCP",
    ),
)
def carry_out(arena: Arena) -> None:
    for name, register in REGISTERS.items():
        arena.undefined(f"mrs x0, {register}\n result 0, x0", f"a read of {name}")
        arena.undefined(f"mov x0, #1\n msr {register}, x0", f"a write of {name}")
    arena.undefined("mov x0, #1\n msr actlr_el1, x0", "a write of ACTLR_EL1")
