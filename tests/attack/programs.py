"""Machine code of attackers and victims: A64 source, with what all programs need around it. Trust label: TOOL.

Programs of the host are called at EL1 with the MMU off; they may change every general register but x29, x30 and SP.
Programs of a VM start at the first byte of its RAM, at EL1 with the MMU off, and have 4 KiB.
"""

from __future__ import annotations

from boot.assembly import assemble
from native.guest import DEVICE, RAM, VECTORS

RESULTS = 32
"""64-bit words that a host program can leave."""
STOP = RESULTS - 1
"""The word by which a program is told to stop."""
IDLE = "1: wfi\n b 1b"
"""A VM that does nothing."""


def host(source: str, results: int, *, called: bool = True) -> bytes:
    """A host program. `result n, xM` stores xM as its n-th result, which lie at physical address `results`;
    `again label` branches until the program is told to stop (both use x17 and x18); `vcpu_run V` runs the vCPU at V,
    `timed_run V` for a quarter of a second, `timed_run V, "lsl #1"` for two; x0 and x1 are the answer.
    One that is not called has no stack, and nowhere to return to.
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
    .macro vcpu_run vcpu
    ldr     x0, =0xc600000d
    ldr     x1, =\\vcpu
    mov     x2, #0
    mov     x3, #0
    mov     x4, #0
    mov     x5, #0
    mov     x6, #0
    hvc     #0
    .endm
    .macro timed_run vcpu, seconds="lsr #2"
    isb
    mrs     x0, cntpct_el0
    mrs     x1, cntfrq_el0
    add     x0, x0, x1, \\seconds
    msr     cntp_cval_el0, x0
    mov     x0, #1
    msr     cntp_ctl_el0, x0
    isb
    vcpu_run \\vcpu
    msr     cntp_ctl_el0, xzr
    isb
    .endm
    {"str x30, [sp, #-16]!" if called else ""}
    {source}
    dsb     sy
    {"ldr x30, [sp], #16" if called else ""}
    ret
    .ltorg
    """)


def guest(source: str, secret: int, handler: str = "") -> bytes:
    """A VM's program: `report xM` makes an MMIO_WRITE exit with xM, `secret xM` is the IPA of the secret page,
    `call id, x1, x2, x3` makes a call. Synchronous exceptions go to `handler`.
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
    ldr     x27, ={RAM + VECTORS:#x}
    msr     vbar_el1, x27
    isb
    {source}
    b       .
    .ltorg
    .org    {VECTORS + 0x200:#x}         // current EL with SP_EL1 (Arm ARM DDI 0487, D1.3.1.5)
    {handler}
    b       .
    .ltorg
    """)


__all__ = ["DEVICE", "IDLE", "RAM", "RESULTS", "STOP", "guest", "host"]
