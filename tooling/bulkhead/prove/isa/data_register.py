"""Data Processing -- Register (DDI 0487 section C4.1.95)."""

from __future__ import annotations

from ..smt import (
    bit,
    choose,
    concat,
    extract,
    rotate_right,
    shift_right,
    shift_right_signed,
    sign_extend,
    signed_divide,
    truth,
    unsigned_divide,
    word,
    zero_extend,
)
from .diagram import Group, Operands
from .machine import Flags, Flow, Machine
from .shared import (
    add,
    add_with_carry,
    condition_holds,
    extend_register,
    logical_flags,
    reverse_bytes,
    shift_register,
    subtract,
)

GROUP = Group()


@GROUP.encoding(
    "AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS (shifted register)",
    "sf opc:2 01010 shift:2 N Rm:5 imm6:6 Rn:5 Rd:5",
)
def logical(machine: Machine, o: Operands) -> Flow:
    o.require(o.imm6 < o.datasize, "shift beyond the 32-bit form")
    right = shift_register(machine.read(o.Rm, o.datasize), o.shift, o.imm6)
    right = ~right if o.N else right
    left = machine.read(o.Rn, o.datasize)
    result = (left & right, left | right, left ^ right, left & right)[o.opc]
    if o.opc == 0b11:
        machine.flags = logical_flags(result)
    machine.write(o.Rd, result)
    return None


@GROUP.encoding("ADD, SUB (shifted register)", "sf op S 01011 shift:2 0 Rm:5 imm6:6 Rn:5 Rd:5")
def add_subtract_shifted(machine: Machine, o: Operands) -> Flow:
    o.require(o.shift != 0b11 and o.imm6 < o.datasize, "reserved shift")
    right = shift_register(machine.read(o.Rm, o.datasize), o.shift, o.imm6)
    result, flags = (subtract if o.op else add)(machine.read(o.Rn, o.datasize), right)
    if o.S:
        machine.flags = flags
    machine.write(o.Rd, result)
    return None


@GROUP.encoding("ADD, SUB (extended register)", "sf op S 01011 00 1 Rm:5 option:3 imm3:3 Rn:5 Rd:5")
def add_subtract_extended(machine: Machine, o: Operands) -> Flow:
    o.require(o.imm3 <= 4, "shift beyond four")
    right = extend_register(machine, o.Rm, o.option, o.imm3, o.datasize)
    result, flags = (subtract if o.op else add)(machine.read_or_sp(o.Rn, o.datasize), right)
    if o.S:
        machine.flags = flags
        machine.write(o.Rd, result)
    else:
        machine.write_or_sp(o.Rd, result)
    return None


@GROUP.encoding("ADC, SBC", "sf op S 11010000 Rm:5 000000 Rn:5 Rd:5")
def add_subtract_carry(machine: Machine, o: Operands) -> Flow:
    right = machine.read(o.Rm, o.datasize)
    result, flags = add_with_carry(machine.read(o.Rn, o.datasize), ~right if o.op else right, machine.flags.c)
    if o.S:
        machine.flags = flags
    machine.write(o.Rd, result)
    return None


@GROUP.encoding("CCMN, CCMP", "sf op 1 11010010 right:5 cond:4 immediate 0 Rn:5 0 nzcv:4")
def conditional_compare(machine: Machine, o: Operands) -> Flow:
    right = word(o.right, o.datasize) if o.immediate else machine.read(o.right, o.datasize)
    holds = condition_holds(machine.flags, o.cond)
    _, compared = (subtract if o.op else add)(machine.read(o.Rn, o.datasize), right)
    given = [truth(bool(o.nzcv >> position & 1)) for position in (3, 2, 1, 0)]
    machine.flags = Flags(*(choose(holds, new, old) for new, old in zip(compared, given, strict=True)))
    return None


@GROUP.encoding("CSEL, CSINC, CSINV, CSNEG", "sf op 0 11010100 Rm:5 cond:4 0 o2 Rn:5 Rd:5")
def conditional_select(machine: Machine, o: Operands) -> Flow:
    otherwise = machine.read(o.Rm, o.datasize)
    if o.op:
        otherwise = ~otherwise
    if o.o2:
        otherwise = otherwise + 1
    holds = condition_holds(machine.flags, o.cond)
    machine.write(o.Rd, choose(holds, machine.read(o.Rn, o.datasize), otherwise))
    return None


@GROUP.encoding("UDIV, SDIV", "sf 0 0 11010110 Rm:5 00001 signed_form Rn:5 Rd:5")
def divide(machine: Machine, o: Operands) -> Flow:
    left, right = machine.read(o.Rn, o.datasize), machine.read(o.Rm, o.datasize)
    quotient = (signed_divide if o.signed_form else unsigned_divide)(left, right)
    machine.write(o.Rd, choose(right == 0, word(0, o.datasize), quotient))
    return None


@GROUP.encoding("LSLV, LSRV, ASRV, RORV", "sf 0 0 11010110 Rm:5 0010 op2:2 Rn:5 Rd:5")
def shift_variable(machine: Machine, o: Operands) -> Flow:
    value = machine.read(o.Rn, o.datasize)
    amount = machine.read(o.Rm, o.datasize) & (o.datasize - 1)
    if o.op2 == 0b00:
        result = value << amount
    else:
        result = (shift_right, shift_right_signed, rotate_right)[o.op2 - 1](value, amount)
    machine.write(o.Rd, result)
    return None


@GROUP.encoding("RBIT", "sf 1 0 11010110 00000 000000 Rn:5 Rd:5")
def reverse_bits(machine: Machine, o: Operands) -> Flow:
    value = machine.read(o.Rn, o.datasize)
    machine.write(o.Rd, concat(*(extract(index, index, value) for index in range(o.datasize))))
    return None


@GROUP.encoding("REV16", "sf 1 0 11010110 00000 000001 Rn:5 Rd:5")
def reverse_halfwords(machine: Machine, o: Operands) -> Flow:
    machine.write(o.Rd, reverse_bytes(machine.read(o.Rn, o.datasize), 16))
    return None


@GROUP.encoding("REV32, REV", "sf 1 0 11010110 00000 00001 wide Rn:5 Rd:5")
def reverse_words(machine: Machine, o: Operands) -> Flow:
    o.require(not o.wide or bool(o.sf), "REV of 64 bits in the 32-bit form")
    machine.write(o.Rd, reverse_bytes(machine.read(o.Rn, o.datasize), 64 if o.wide else 32))
    return None


@GROUP.encoding("CLZ", "sf 1 0 11010110 00000 000100 Rn:5 Rd:5")
def count_leading_zeros(machine: Machine, o: Operands) -> Flow:
    value = machine.read(o.Rn, o.datasize)
    count = word(o.datasize, o.datasize)
    for index in range(o.datasize):
        count = choose(bit(index, value), word(o.datasize - 1 - index, o.datasize), count)
    machine.write(o.Rd, count)
    return None


@GROUP.encoding("MADD, MSUB", "sf 00 11011 000 Rm:5 o0 Ra:5 Rn:5 Rd:5")
def multiply_add(machine: Machine, o: Operands) -> Flow:
    product = machine.read(o.Rn, o.datasize) * machine.read(o.Rm, o.datasize)
    addend = machine.read(o.Ra, o.datasize)
    machine.write(o.Rd, addend - product if o.o0 else addend + product)
    return None


@GROUP.encoding("SMADDL, SMSUBL, UMADDL, UMSUBL", "1 00 11011 U 01 Rm:5 o0 Ra:5 Rn:5 Rd:5")
def multiply_add_long(machine: Machine, o: Operands) -> Flow:
    widen = zero_extend if o.U else sign_extend
    product = widen(machine.read(o.Rn, 32), 64) * widen(machine.read(o.Rm, 32), 64)
    addend = machine.read(o.Ra, 64)
    machine.write(o.Rd, addend - product if o.o0 else addend + product)
    return None


@GROUP.encoding("SMULH, UMULH", "1 00 11011 U 10 Rm:5 0 Ra:5 Rn:5 Rd:5")
def multiply_high(machine: Machine, o: Operands) -> Flow:
    o.require(o.Ra == 31, "Ra should be ones")
    widen = zero_extend if o.U else sign_extend
    product = widen(machine.read(o.Rn, 64), 128) * widen(machine.read(o.Rm, 64), 128)
    machine.write(o.Rd, extract(127, 64, product))
    return None
