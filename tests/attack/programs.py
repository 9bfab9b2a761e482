"""Machine code of attackers and victims: A64 source, with what all programs need around it. Trust label: TOOL.

Programs of the host are called at EL1 with the MMU off; they may change every general register but x29, x30 and SP.
Programs of a VM start at the first byte of its RAM, at EL1 with the MMU off, and have 4 KiB.
"""

from __future__ import annotations

from boot.assembly import assemble
from native.guest import DEVICE, RAM

RESULTS = 32
"""64-bit words that a host program can leave."""
STOP = RESULTS - 1
"""The word by which a program is told to stop."""
IDLE = "1: wfi\n b 1b"
"""A VM that does nothing."""


def host(source: str, results: int) -> bytes:
    """A host program. `result n, xM` stores xM as its n-th result, which lie at physical address `results`;
    `again label` branches until the program is told to stop. Both use x17 and x18.
    """
    return assemble(f"""
    .macro result number, register
    ldr     x18, ={results:#x}
    str     \\register, [x18, #8 * \\number]
    .endm
    .macro again label
    ldr     x18, ={results:#x}
    ldr     x17, [x18, #{8 * STOP}]
    cbz     x17, \\label
    .endm
    str     x30, [sp, #-16]!
    {source}
    dsb     sy
    ldr     x30, [sp], #16
    ret
    .ltorg
    """)


def guest(source: str, secret: int) -> bytes:
    """A VM's program: `report xM` makes an MMIO_WRITE exit with xM, `secret xM` is the IPA of the secret page.

    `vectors` ... `handler` is optional: code between the label `handler:` and the end gets all exceptions.
    """
    return assemble(f"""
    .macro report register
    ldr     x28, ={DEVICE:#x}
    str     \\register, [x28]
    .endm
    .macro secret register
    ldr     \\register, ={secret:#x}
    .endm
    .macro call function, a1=0, a2=0, a3=0
    ldr     x0, =\\function
    ldr     x1, =\\a1
    ldr     x2, =\\a2
    ldr     x3, =\\a3
    hvc     #0
    .endm
    .macro catch label                   // every exception from EL1 goes to the label
    adr     x27, 88f
    msr     vbar_el1, x27
    isb
    b       99f
    .balign 2048
88: .rept   16
    .balign 128
    b       \\label
    .endr
    .balign 128
99:
    .endm
    {source}
    b       .
    .ltorg
    """)


__all__ = ["DEVICE", "IDLE", "RAM", "RESULTS", "STOP", "guest", "host"]
