"""A VM reads the vector registers that another VM has left in the CPU."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="they are loaded at the first use by another vCPU",
    removed=Edit(
        "engine/arch/src/resident.rs",
        "bulkhead_fp_load(&raw const vcpu.resident)",
        "core::hint::black_box(&raw const vcpu.resident);",
    ),
)
def carry_out(arena: Arena) -> None:
    enable = "mov x0, #3 << 20\n msr cpacr_el1, x0\n isb"
    first = arena.victim(f"{enable}\n secret x20\n ldr q0, [x20]\n ldr q31, [x20]\n 1: wfi\n b 1b")
    assert first.run().name == "WFI"
    second = arena.victim(f"{enable}\n mov x0, v0.d[0]\n mov x1, v31.d[0]\n report x0\n report x1", slot=1)
    found = second.reports(2)
    assert found == [0, 0], f"a VM reads {list(map(hex, found))} in vector registers of another"
