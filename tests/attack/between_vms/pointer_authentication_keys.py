"""A VM or the host uses the pointer authentication keys of another, where the CPU has such."""

from attack.arena import Arena
from bulkhead.attack import Edit, Machine, attack


@attack(
    by="several",
    against="P6",
    refused="keys and instructions trap, and are hidden",
    removed=Edit("engine/arch/src/cpu.rs", "RW | VM | SWIO | TSC;", "RW | VM | SWIO | TSC | 3 << 40;"),
    machine=Machine(cpu_model="max"),
)
def carry_out(arena: Arena) -> None:
    for register in ("S3_0_C2_C1_0", "S3_0_C2_C1_1", "S3_0_C2_C2_0", "S3_0_C2_C3_0"):
        arena.undefined(f"mrs x0, {register}\n result 0, x0", f"a read of {register}")
        arena.undefined(f"mov x0, #1\n msr {register}, x0", f"a write of {register}")
    handler = "mrs x0, esr_el1\n lsr x0, x0, #26\n report x0"
    victim = arena.victim("mov x0, #0xbad\n mrs x0, S3_0_C2_C1_0\n report x0", handler=handler)
    assert victim.reports() == [0], "a VM has read a key"
