"""Programs that execute a list of single instructions, given as data, and tell what each came to. Trust label: TOOL.

An entry of a list is 32 bytes: the instruction, which may use x0 and nothing else; the complement of x0 before it, so
that the value itself is nowhere but in registers; x0 after it; 0, or the class of the exception that it caused, plus 1.
Sources: Arm ARM DDI 0487, C6.2 (MRS, MSR (register), FMOV, INS, UMOV), C5.1.2 (encoding of system registers).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from boot.assembly import SKIPPING_VECTORS
from bulkhead.registers import Encoding

MASK = (1 << 64) - 1
NOT_READ = 0xDEAD_DEAD_DEAD_DEAD
"""x0 after a read that caused an exception."""
ENTRY = struct.Struct("<QQQQ")
HEAD = 16
DUMP_WORDS = 35
"""x0 to x30, NZCV, VBAR_EL1, CPACR_EL1 and SP as the program finds them."""
SP_WORD = 34
SET_SP, GET_SP = 0x9100_001F, 0x9100_03E0
"""MOV SP, X0 and MOV X0, SP."""


def system(encoding: Encoding, direction: str) -> int:
    """MRS X0 or MSR from X0; with op0 = 1, SYSL or SYS."""
    op0, op1, crn, crm, op2 = encoding
    return 0xD500_0000 | (direction == "r") << 21 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5


def vector(number: int, direction: str) -> int:
    """FMOV or INS and UMOV of one half of V0 to V31: `number` is twice the register's, plus 1 for the upper half."""
    register, upper = divmod(number, 2)
    if direction == "w":
        return (0x4E18_1C00 if upper else 0x9E67_0000) | register
    return (0x4E18_3C00 if upper else 0x9E66_0000) | register << 5


@dataclass(frozen=True)
class Step:
    """An instruction and x0 before it."""

    instruction: int
    value: int = NOT_READ


def encode(steps: Sequence[Step]) -> bytes:
    """The list in memory."""
    return struct.pack("<QQ", len(steps), 0) + b"".join(
        ENTRY.pack(step.instruction, step.value ^ MASK, 0, 0) for step in steps
    )


def decode(data: bytes) -> list[tuple[int, int]]:
    """x0 after each step, and what it came to."""
    (count,) = struct.unpack_from("<Q", data)
    return [ENTRY.unpack_from(data, HEAD + ENTRY.size * number)[2:] for number in range(count)]


def length(steps: Sequence[Step]) -> int:
    """Bytes of the list."""
    return HEAD + ENTRY.size * len(steps)


def program(slot: int, begin: str, end: str) -> str:
    """`begin`, after which x0 is where to leave VBAR_EL1 and CPACR_EL1, and x11 a list to execute; then `end`.

    The instructions are put at `slot`, a page of its own. `end` may execute a further list at x11 by `bl 4b`, which
    changes x0, x10, x11, x12, x14 to x18 and x30; x13 and x19 hold what VBAR_EL1 and CPACR_EL1 were.
    """
    return f"""
    {SKIPPING_VECTORS}
4:  mov     x18, x30
    ldr     x14, ={slot:#x}
    ldr     w16, =0xD65F03C0         // ret
    str     w16, [x14, #4]
    ldr     x17, [x11], #{HEAD}
3:  ldr     w15, [x11]
    ldr     x0, [x11, #8]
    mvn     x0, x0
    str     w15, [x14]
    dc      cvau, x14
    dsb     ish
    ic      ivau, x14
    dsb     ish
    isb
    mov     x10, xzr
    blr     x14
    stp     x0, x10, [x11, #16]
    add     x11, x11, #{ENTRY.size}
    subs    x17, x17, #1
    b.ne    3b
    br      x18
1:  {begin}
    mrs     x13, vbar_el1
    mrs     x19, cpacr_el1
    stp     x13, x19, [x0, #{8 * 32}]
    adr     x0, 2b
    msr     vbar_el1, x0
    mov     x0, #0x3330000           // EL1's own traps of FP, SVE and SME are off: EL2's must do it
    msr     cpacr_el1, x0
    isb
    bl      4b
    {end}
    .ltorg
    """


def store_general(base: str) -> str:
    """x0 to x30."""
    pairs = "\n".join(f"stp x{n}, x{n + 1}, [{base}, #{8 * n}]" for n in range(0, 30, 2))
    return f"{pairs}\nstr x30, [{base}, #240]"
