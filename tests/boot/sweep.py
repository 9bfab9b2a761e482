"""A program that executes MRS or MSR with every encoding that there is, and tells which executed. Trust label: TOOL.

Source: Arm ARM DDI 0487, C6.2 (MRS, MSR (register)): op0 2 and 3, that is 32768 registers, numbered as the
instruction has them: op0 - 2, op1, CRn, CRm, op2 from bit 14 down; C5.1.2: op0 0 and 1, system instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bulkhead.registers import Encoding, load

TABLE = load()
COUNT = 1 << 15
EXECUTED, LEFT_OUT = 0, 0x80
REFUSED = (0x00 + 1, 0x18 + 1)
"""What the program stores for an encoding: 0, or LEFT_OUT if it was not tried, or the exception class plus 1:
UNDEFINED, or a trap to the domain's own EL1, by which a CPU with FEAT_IDST refuses ID registers that it has not."""
READ, WRITE = 0xD530_0000, 0xD510_001F
"""MRS X0 and MSR from XZR of encoding 0."""
SYSTEM = {1: {"r": 0xD528_0000, "w": 0xD508_0000}, 0: {"r": 0xD520_001F, "w": 0xD500_001F}}
"""By op0: SYSL X0 and SYS with X0, and what is a hint, a barrier or an MSR (immediate) where it is anything."""
SYSTEM_COUNT = COUNT // 2


def encodings() -> Iterator[Encoding]:
    """In the order of their numbers."""
    for number in range(COUNT):
        yield 2 + (number >> 14), number >> 11 & 7, number >> 7 & 15, number >> 3 & 15, number & 7


def instructions(op0: int) -> Iterator[Encoding]:
    """System instructions with this op0, in the order of their numbers."""
    for number in range(SYSTEM_COUNT):
        yield op0, number >> 11, number >> 7 & 15, number >> 3 & 15, number & 7


def debug_registers(model: str) -> int:
    """How many breakpoints and watchpoints QEMU's CPU models have (all alike): six and four."""
    return {0: 6, 1: 4}[0 if model == "breakpoints" else 1]


def expected(encoding: Encoding, domain: str, direction: str, model: str) -> str:
    """What the table says about the access."""
    register = TABLE.at(encoding)
    if register is None or model not in register.group.on:
        return "undefined"
    if register.name.startswith("DBG") and register.is_family:
        kind = "breakpoints" if register.name.startswith("DBGB") else "watchpoints"
        if encoding[3] >= debug_registers(kind):
            return "undefined"
    return register.execution(domain, direction)


def left_out(where: Callable[[Encoding], bool], of: Iterable[Encoding] | None = None) -> bytes:
    """A byte for each, of all registers unless others are given: LEFT_OUT where the encoding must not be tried."""
    return bytes(LEFT_OUT if where(encoding) else 0xFF for encoding in (encodings() if of is None else of))


TO_EL0 = """
    ldr     x0, =0x34d5ce30          // SCTLR_EL1: UCI, UCT, UMA, DZE, EnRCTX, and RES1 bits
    msr     sctlr_el1, x0
    mov     x0, #0x303               // CNTKCTL_EL1: counts and timers
    msr     cntkctl_el1, x0
    adr     x0, 5f
    msr     elr_el1, x0
    mov     x0, #0x3c0               // EL0t
    msr     spsr_el1, x0
    isb
    eret
5:
"""
"""What a VM adds as `first`, so that it tries at EL0 what it has opened for it."""


def program(instruction: int, slot: int, table: int, end: str, first: str = "", count: int = COUNT) -> str:
    """Puts `count` instructions one after the other at `slot`, a page of its own; `table` holds a byte for each.

    An entry of LEFT_OUT stays, every other one becomes what the encoding came to. SVC ends a program at EL0. x0 is the
    address of the third word of `slot`.
    """
    return f"""
    b       1f
    .balign 2048
2:  .rept   16
    .balign 128
    mrs     x10, esr_el1
    lsr     x10, x10, #26
    add     x10, x10, #1
    cmp     x10, #0x15 + 1
    b.eq    6f
    mrs     x12, elr_el1
    add     x12, x12, #4
    msr     elr_el1, x12
    eret
    .endr
    .balign 128
1:  sub     sp, sp, #32
    stp     x19, x20, [sp]
    stp     x30, x21, [sp, #16]
    mrs     x13, vbar_el1
    adr     x0, 2b
    msr     vbar_el1, x0
    mov     x0, #0x3330000           // EL1's own traps of FP, SVE and SME are off: EL2's must do it
    msr     cpacr_el1, x0
    isb
    ldr     x11, ={table:#x}
    ldr     x14, ={slot:#x}
    ldr     w15, ={instruction:#x}
    ldr     w16, =0xD65F03C0         // ret
    str     w16, [x14, #4]
    mov     x17, #{count}
    {first}
3:  ldrb    w16, [x11]
    cmp     w16, #{LEFT_OUT}
    b.eq    4f
    str     w15, [x14]
    dc      cvau, x14
    dsb     ish
    ic      ivau, x14
    dsb     ish
    isb
    mov     x10, xzr
    add     x0, x14, #64
    blr     x14
    strb    w10, [x11]
4:  add     x11, x11, #1
    add     w15, w15, #1 << 5
    subs    x17, x17, #1
    b.ne    3b
    svc     #0
6:  msr     cpacr_el1, xzr
    msr     vbar_el1, x13
    isb
    ldp     x19, x20, [sp]
    ldp     x30, x21, [sp, #16]
    add     sp, sp, #32
    {end}
    .ltorg
    """
