"""A VM acknowledges an interrupt that was meant for the host."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

IRQ, SPURIOUS = 0, 1023


@attack(
    by="vm",
    against="P5",
    refused="the CPU interface of a VM is the virtual one; physical interrupts exit",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "    | hcr::IMO\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("mrs x0, S3_0_C12_C12_0\n report x0\n 1: b 1b")
    first = arena.host(f"""
        mov     x0, #1                   // SGI 0 to this CPU
        msr     S3_0_C12_C11_5, x0
        isb
        vcpu_run {victim.context:#x}
        result  0, x0
        result  1, x1
        result  2, x4
        cbz     x1, 1f                   // nothing acknowledged yet
        and     x4, x4, #0x3ff
        msr     S3_0_C12_C12_1, x4       // what the VM has acknowledged ends here
        msr     S3_0_C12_C11_1, x4
    1:
    """)
    if first[:2] == [0, IRQ]:
        first[2] = victim.reports()[0]
    assert first[2] == SPURIOUS, f"a VM has acknowledged interrupt {first[2]} of the host"
