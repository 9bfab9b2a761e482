"""Data Processing -- Immediate (DDI 0487 section C4.1.92)."""

from __future__ import annotations

from ..smt import concat, extract, sign_extend, word, zero_extend
from .diagram import Group, Operands
from .machine import Flow, Machine
from .shared import add, bit_mask, logical_flags, subtract

GROUP = Group()


@GROUP.encoding("ADR, ADRP", "op immlo:2 10000 immhi:19 Rd:5")
def pc_relative(machine: Machine, o: Operands) -> Flow:
    offset = o.signed("immhi") << 2 | o.immlo
    target = (machine.pc & ~0xFFF) + (offset << 12) if o.op else machine.pc + offset
    machine.write(o.Rd, word(target))
    return None


@GROUP.encoding("ADD, SUB (immediate)", "sf op S 100010 sh imm12:12 Rn:5 Rd:5")
def add_subtract(machine: Machine, o: Operands) -> Flow:
    immediate = word(o.imm12 << (12 if o.sh else 0), o.datasize)
    result, flags = (subtract if o.op else add)(machine.read_or_sp(o.Rn, o.datasize), immediate)
    if o.S:
        machine.flags = flags
        machine.write(o.Rd, result)
    else:
        machine.write_or_sp(o.Rd, result)
    return None


@GROUP.encoding("AND, ORR, EOR, ANDS (immediate)", "sf opc:2 100100 N immr:6 imms:6 Rn:5 Rd:5")
def logical(machine: Machine, o: Operands) -> Flow:
    o.require(bool(o.sf) or not o.N, "N is one in the 32-bit form")
    mask = word(bit_mask(o, o.N, o.imms, o.immr, o.datasize), o.datasize)
    operand = machine.read(o.Rn, o.datasize)
    result = (operand & mask, operand | mask, operand ^ mask, operand & mask)[o.opc]
    if o.opc == 0b11:
        machine.flags = logical_flags(result)
        machine.write(o.Rd, result)
    else:
        machine.write_or_sp(o.Rd, result)
    return None


@GROUP.encoding("MOVN, MOVZ, MOVK", "sf opc:2 100101 hw:2 imm16:16 Rd:5")
def move_wide(machine: Machine, o: Operands) -> Flow:
    o.require(o.opc != 0b01, "unallocated opc")
    o.require(bool(o.sf) or o.hw < 2, "hw beyond the 32-bit form")
    position = 16 * o.hw
    value = word(o.imm16 << position, o.datasize)
    if o.opc == 0b00:
        value = ~value
    elif o.opc == 0b11:
        value = machine.read(o.Rd, o.datasize) & ~word(0xFFFF << position, o.datasize) | value
    machine.write(o.Rd, value)
    return None


@GROUP.encoding("SBFM, BFM, UBFM", "sf opc:2 100110 N immr:6 imms:6 Rn:5 Rd:5")
def bitfield(machine: Machine, o: Operands) -> Flow:
    width = o.datasize
    o.require(o.opc != 0b11, "unallocated opc")
    o.require(o.sf == o.N and o.immr < width and o.imms < width, "N, immr or imms beyond the form")
    source = machine.read(o.Rn, width)
    if o.imms >= o.immr:  # extract bits imms..immr to the bottom
        field, low = extract(o.imms, o.immr, source), 0
    else:  # insert bits imms..0 at width - immr
        field, low = extract(o.imms, 0, source), width - o.immr
    high = low + field.size()
    if o.opc == 0b01:
        old = machine.read(o.Rd, width)
        above = [extract(width - 1, high, old)] if high < width else []
        below = [extract(low - 1, 0, old)] if low else []
        machine.write(o.Rd, concat(*above, field, *below))
        return None
    widened = (sign_extend if o.opc == 0b00 else zero_extend)(field, width - low)
    machine.write(o.Rd, concat(widened, word(0, low)) if low else widened)
    return None


@GROUP.encoding("EXTR", "sf 00 100111 N 0 Rm:5 imms:6 Rn:5 Rd:5")
def extract_pair(machine: Machine, o: Operands) -> Flow:
    o.require(o.sf == o.N and o.imms < o.datasize, "N or imms beyond the form")
    pair = concat(machine.read(o.Rn, o.datasize), machine.read(o.Rm, o.datasize))
    machine.write(o.Rd, extract(o.imms + o.datasize - 1, o.imms, pair))
    return None
