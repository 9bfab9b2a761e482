"""The host moves a vCPU between CPUs, so that it finds again what its registers held earlier (replay of a context)."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

STEPS = 6


@attack(
    by="host",
    against="P5",
    refused="all that stays in a CPU is saved when the vCPU leaves it",
    removed=Edit(
        "engine/arch/src/resident.rs",
        "bulkhead_fp_save(resident)",
        "core::hint::black_box(resident);",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("""
        mov     x0, #3 << 20
        msr     cpacr_el1, x0
        isb
        mov     v7.d[1], xzr
        msr     contextidr_el1, xzr
        msr     tpidr_el1, xzr
    1:  mov     x0, v7.d[1]
        mrs     x1, contextidr_el1
        mrs     x2, tpidr_el1
        add     x3, x0, #1
        mov     v7.d[1], x3
        add     x3, x1, #1
        msr     contextidr_el1, x3
        add     x3, x2, #1
        msr     tpidr_el1, x3
        report  x0
        report  x1
        report  x2
        wfi
        b       1b
    """)
    for step in range(STEPS):
        victim.guest.cpu = step % 2
        counted = victim.reports(3)
        assert counted == [step] * 3, (
            f"after {step} moves vector, resident and switched register hold {counted}"
        )
        assert victim.run().name == "WFI"
        arena.machine.ok("vcpu_put", cpu=step % 2)
