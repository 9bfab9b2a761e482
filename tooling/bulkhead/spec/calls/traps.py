"""System registers of a VM that trap: emulated, ignored or UNDEFINED, as `engine/arch/registers/*.toml` says."""

from __future__ import annotations

from bulkhead.registers.table import Encoding, IdRegister, load

from ..state import VmWord
from ..syndrome import bit
from ..vcpu import VcpuTransaction
from ..words import Truth, Word, all_of, any_of, at_most, below, choose, field, minus, negate
from . import debug, exceptions

TABLE = load()
REGISTER = 0x3F_FC1E
"""Bits of the syndrome that name a register; bit 0 tells a read."""
OSLSR_UNLOCKED = 1 << 3
"""The OS lock exists and is open."""


def packed(encoding: Encoding) -> int:
    """op0, op1, CRn, CRm, op2 as in the syndrome of a trapped access (ISS bits 21:10 and 4:1)."""
    op0, op1, crn, crm, op2 = encoding
    return op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1


def named(name: str) -> int:
    """A register of the table, as in a syndrome."""
    return packed(TABLE.named(name).first)


IGNORED = frozenset(
    packed(encoding)
    for register in TABLE.registers
    if register.group.vm == "trapped: ignored"
    for encoding in register.encodings()
    if TABLE.at(encoding) is register
)
IDENTIFICATION = {packed(one.register.first): one for one in TABLE.ids}


def system_access(t: VcpuTransaction) -> None:
    """MRS, MSR or a cache instruction that traps."""
    register = t.syndrome.esr & REGISTER
    is_read = bit(t.syndrome.esr, 0)
    is_sgi = all_of(register == named("ICC_SGI1R_EL1"), negate(is_read))
    with t.when(is_sgi, name="SGI"):
        t.exit("SGI")
        t.advance()
    others = negate(is_sgi)
    reads = all_of(others, is_read, can_read(t, register))
    with t.when(reads, name="read"):
        t.set_x(t.syndrome.transfer, value_of(t, register))
        t.advance()
    writes = all_of(others, negate(is_read), can_write(t, register))
    with t.when(writes, name="write"):
        write(t, register)
        t.advance()
    with t.when(all_of(others, negate(any_of(reads, writes))), name="undefined"):
        exceptions.undefined(t)


def place(register: Word) -> tuple[Word, Word]:
    """CRm and op2."""
    return field(register, 1, 4), field(register, 17, 3)


def is_in_group(register: Word, op0: int) -> Truth:
    """Whether op1 and CRn are 0, and op0 is this."""
    return register & packed((3, 7, 15, 0, 0)) == packed((op0, 0, 0, 0, 0))


def is_identification(register: Word) -> Truth:
    """What HCR_EL2.TID3 traps: op0=3, op1=0, CRn=0, CRm 1 to 7."""
    crm, _ = place(register)
    return all_of(is_in_group(register, 3), at_most(1, crm), below(crm, 8))


def is_breakpoint(t: VcpuTransaction, register: Word) -> Truth:
    """A breakpoint or watchpoint register that the CPU has."""
    return all_of(is_in_group(register, 2), debug.exists(t.before, *place(register)))


def is_ignored(register: Word) -> Truth:
    """Reads as zero, ignores what is written."""
    if isinstance(register, int):
        return register in IGNORED
    return any_of(*(register == one for one in sorted(IGNORED)))


def can_write(t: VcpuTransaction, register: Word) -> Truth:
    """What a write does not make UNDEFINED."""
    known = any_of(register == named("MDSCR_EL1"), is_ignored(register), is_breakpoint(t, register))
    return all_of(known, negate(is_identification(register)))


def can_read(t: VcpuTransaction, register: Word) -> Truth:
    """What a read does not make UNDEFINED."""
    return any_of(
        is_identification(register),
        register == named("CNTPCT_EL0"),
        register == named("OSLSR_EL1"),
        register == named("MDSCR_EL1"),
        is_ignored(register),
        is_breakpoint(t, register),
    )


def value_of(t: VcpuTransaction, register: Word) -> Word:
    """What a read gets."""
    crm, op2 = place(register)
    hardware = t.before.inputs.identification(crm << 3 | op2)
    value: Word = 0
    for encoding, one in IDENTIFICATION.items():
        is_it: Truth = register == encoding
        if is_it is not False:
            value = choose(is_it, sanitized(one, hardware), value)
    offset = t.before.vm_word(t.owner.vm, VmWord.COUNTER_OFFSET)
    value = choose(register == named("CNTPCT_EL0"), minus(t.before.counter, offset), value)
    value = choose(register == named("OSLSR_EL1"), OSLSR_UNLOCKED, value)
    value = choose(register == named("MDSCR_EL1"), t.system("MDSCR_EL1"), value)
    return choose(is_breakpoint(t, register), debug.value(t, crm, op2), value)


def sanitized(one: IdRegister, hardware: Word) -> Word:
    """What a VM reads of an ID register: known fields only, of some at most a number."""
    value: Word = 0
    for part in one.fields:
        if isinstance(part.reads, int):
            value |= part.reads << part.low
        else:
            raw, limit = field(hardware, part.low, 4), 0xF if part.limit is None else part.limit
            value |= choose(below(raw, limit), raw, limit) << part.low
    return value


def write(t: VcpuTransaction, register: Word) -> None:
    """A write that counts, or is ignored."""
    value = t.x(t.syndrome.transfer)
    with t.when(register == named("MDSCR_EL1"), name="debug control"):
        debug.set_control(t, value)
    with t.when(is_breakpoint(t, register), name="breakpoint or watchpoint"):
        debug.write(t, *place(register), value)
