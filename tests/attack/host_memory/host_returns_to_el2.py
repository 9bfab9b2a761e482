"""The host returns from an exception to EL2, or to secure or 32-bit states."""

from attack.arena import Arena
from bulkhead.attack import attack

ILLEGAL_STATE = 0x0E
RETURN = """
    mrs     x20, vbar_el1
    adr     x0, 5f
    msr     vbar_el1, x0
    mov     x0, #{state:#x}
    msr     spsr_el1, x0
    adr     x0, 1f
    msr     elr_el1, x0
    isb
    eret
1:  mov     x2, #0
    b       3f
    .balign 2048
5:  .skip   0x200
    mrs     x2, esr_el1
    mov     x0, #0x3c5
    msr     spsr_el1, x0
    adr     x0, 3f
    msr     elr_el1, x0
    eret
3:  mrs     x1, CurrentEL
    msr     vbar_el1, x20
    isb
    result  0, x1
    result  1, x2
"""
"""An exception return with a chosen SPSR_EL1; results: the exception level after it, and the syndrome it led to."""


@attack(
    by="host",
    against="P1",
    refused="an illegal exception return stays at EL1",
    irremovable="the architecture refuses by itself",
)
def carry_out(arena: Arena) -> None:
    for mode in (0x9, 0x8, 0xD, 0xC, 0x13, 0x16, 0x1A):
        level, syndrome = arena.host(RETURN.format(state=0x3C0 | mode))[:2]
        assert level == 1 << 2, f"a return to mode {mode:#x} has led to EL{level >> 2}"
        assert syndrome >> 26 == ILLEGAL_STATE, f"a return to mode {mode:#x}: {syndrome:#x}"
