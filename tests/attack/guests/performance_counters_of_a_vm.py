"""A VM counts cycles and cache misses, to learn what others do on its CPU."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="the performance monitors trap, and are hidden",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "    | 1 << 6 // TPM\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    for slot, register in enumerate(
        ("pmcr_el0", "pmccntr_el0", "pmcntenset_el0", "pmevcntr0_el0", "pmselr_el0")
    ):
        program = f"mrs x0, {register}\n mov x0, #0xbad\n report x0"
        victim = arena.victim(program, slot=slot, handler="mrs x0, esr_el1\n lsr x0, x0, #26\n report x0")
        assert victim.reports() == [0], f"a VM has read {register}"
