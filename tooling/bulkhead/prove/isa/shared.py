"""Functions shared by several instructions, after the Arm pseudocode library (DDI 0487 chapter J1.3)."""

from __future__ import annotations

from ..smt import (
    Bits,
    Bool,
    bit,
    both,
    choose,
    concat,
    extract,
    negate,
    rotate_right,
    shift_right,
    shift_right_signed,
    sign_extend,
    truth,
    unsigned_at_most,
    word,
    zero_extend,
)
from .diagram import Operands
from .machine import Flags, Machine


def add_with_carry(left: Bits, right: Bits, carry: Bool) -> tuple[Bits, Flags]:
    """AddWithCarry: the sum and the flags it sets."""
    width = left.size()
    carry_in = choose(carry, word(1, width + 1), word(0, width + 1))
    wide = zero_extend(left, width + 1) + zero_extend(right, width + 1) + carry_in
    result = extract(width - 1, 0, wide)
    left_sign, right_sign, sign = (bit(width - 1, term) for term in (left, right, result))
    overflow = both(left_sign == right_sign, negate(sign == left_sign))
    return result, Flags(sign, result == 0, bit(width, wide), overflow)


def add(left: Bits, right: Bits) -> tuple[Bits, Flags]:
    """left + right and its flags."""
    return add_with_carry(left, right, truth(False))


def subtract(left: Bits, right: Bits) -> tuple[Bits, Flags]:
    """left - right and its flags: left + NOT(right) + 1, said with comparisons where they mean the same."""
    width = left.size()
    result = left - right
    left_sign, right_sign, sign = (bit(width - 1, term) for term in (left, right, result))
    overflow = both(negate(left_sign == right_sign), negate(sign == left_sign))
    return result, Flags(sign, left == right, unsigned_at_most(right, left), overflow)


def logical_flags(result: Bits) -> Flags:
    """The flags of ANDS and BICS."""
    return Flags(bit(result.size() - 1, result), result == 0, truth(False), truth(False))


def condition_holds(flags: Flags, condition: int) -> Bool:
    """ConditionHolds (section C1.2.4)."""
    n, z, c, v = flags
    positive = (
        z,
        c,
        n,
        v,
        both(c, negate(z)),
        n == v,
        both(n == v, negate(z)),
        truth(True),
    )[condition >> 1]
    return negate(positive) if condition & 1 and condition != 0b1111 else positive


def shift_register(value: Bits, kind: int, amount: int) -> Bits:
    """ShiftReg: LSL, LSR, ASR or ROR by a constant."""
    if amount == 0:
        return value
    if kind == 0:
        return value << amount
    return (shift_right, shift_right_signed, rotate_right)[kind - 1](value, amount)


def extend_register(machine: Machine, number: int, option: int, shift: int, width: int) -> Bits:
    """ExtendReg: UXTB..UXTX, SXTB..SXTX of a register, shifted left."""
    length = min(8 << (option & 3), width)
    value = machine.read(number, 64)
    if length < 64:
        value = extract(length - 1, 0, value)
    if length < width:
        value = sign_extend(value, width) if option & 4 else zero_extend(value, width)
    return value << shift if shift else value


def bit_mask(operands: Operands, n: int, imms: int, immr: int, width: int) -> int:
    """DecodeBitMasks, the immediate of the logical instructions."""
    length = (n << 6 | ~imms & 0x3F).bit_length() - 1
    operands.require(length >= 1, "reserved bit mask")
    size = 1 << length
    levels = size - 1
    ones, rotation = imms & levels, immr & levels
    operands.require(ones != levels, "reserved bit mask")
    element = (1 << (ones + 1)) - 1
    element = (element >> rotation | element << (size - rotation)) & ((1 << size) - 1)
    return sum(element << position for position in range(0, width, size))


def reverse_bytes(value: Bits, container: int) -> Bits:
    """The bytes of each `container` bits of `value` in opposite order."""
    width = value.size()
    pieces: list[Bits] = []
    for high in range(width, 0, -container):
        pieces += [extract(low + 7, low, value) for low in range(high - container, high, 8)]
    return concat(*pieces)
