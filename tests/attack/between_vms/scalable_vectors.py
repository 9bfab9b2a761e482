"""A VM or the host reads the upper parts of vector registers that only SVE shows."""

from attack.arena import Arena
from bulkhead.attack import Edit, Machine, attack
from bulkhead.conformance.testing.builder import dismantle


@attack(
    by="several",
    against="P6",
    refused="SVE and SME trap, and are hidden",
    removed=(
        Edit("engine/arch/src/registers.rs", "CPTR_HOST: u64 = 1 << 8 // TZ", "CPTR_HOST: u64 = 0"),
        Edit("engine/arch/src/registers.rs", "CPTR_VM: u64 = 1 << 8 // TZ", "CPTR_VM: u64 = 0"),
    ),
    machine=Machine(cpu_model="max"),
)
def carry_out(arena: Arena) -> None:
    enable = "mov x0, #3 << 20\n orr x0, x0, #3 << 16\n msr cpacr_el1, x0\n isb"
    handler = "mrs x0, esr_el1\n lsr x0, x0, #26\n report x0"
    for source in ("mrs x0, S3_0_C1_C2_0", ".inst 0x04bf5000", ".inst 0x2518e3e0"):  # ZCR_EL1, rdvl, ptrue
        arena.undefined(f"{enable}\n {source}", f"`{source}`")
        victim = arena.victim(f"{enable}\n {source}\n mov x0, #0xbad\n report x0", handler=handler)
        assert victim.reports() == [0], f"a VM has executed {source}"
        dismantle(arena.machine)
