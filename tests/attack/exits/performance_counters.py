"""The host counts what a VM does: cycles, instructions, cache refills."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the performance monitors trap and do not count",
    source="performance counters as a side channel, e.g. CounterSEVeillance, NDSS 2025",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "    | 1 << 6 // TPM\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    arena.victim()
    for register in (
        "pmcr_el0",
        "pmccntr_el0",
        "pmcntenset_el0",
        "pmevcntr0_el0",
        "pmccfiltr_el0",
        "pmuserenr_el0",
    ):
        arena.undefined(f"mrs x0, {register}\n result 0, x0", f"a read of {register}")
        arena.undefined(f"mov x0, #1\n msr {register}, x0", f"a write of {register}")
