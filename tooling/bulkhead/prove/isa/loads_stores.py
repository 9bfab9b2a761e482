"""Loads and Stores of the general registers (DDI 0487 section C4.1.94).

Exclusives, unprivileged accesses, prefetches and the SIMD forms are not described, so they are refused.
Writeback onto a register that is also transferred is CONSTRAINED UNPREDICTABLE (section K1.1) and refused
too.
"""

from __future__ import annotations

from ..smt import Bits, sign_extend, word, zero_extend
from .diagram import Group, Operands
from .events import Atomic
from .machine import Flow, Machine
from .shared import extend_register

GROUP = Group()
POST_INDEX, SIGNED_OFFSET, PRE_INDEX = 0b01, 0b10, 0b11
STACK_POINTER = 31


def transfer(machine: Machine, o: Operands, address: Bits) -> None:
    """One register to or from memory, as `size` and `opc` say."""
    size = 1 << o.size
    if o.opc == 0b00:
        machine.store(address, machine.read(o.Rt, 8 * size), size)
        return
    if o.opc == 0b01:
        machine.write(o.Rt, machine.load(address, size))
        return
    o.require(o.size < (3 if o.opc == 0b10 else 2), "prefetch or unallocated sign extension")
    machine.write(o.Rt, sign_extend(machine.load(address, size), 64 if o.opc == 0b10 else 32))


@GROUP.encoding("LDP, STP, LDPSW, LDNP, STNP", "opc:2 101 0 0 mode:2 L imm7:7 Rt2:5 Rn:5 Rt:5")
def pair(machine: Machine, o: Operands) -> Flow:
    o.require(o.opc != 0b11 and (o.opc != 0b01 or (bool(o.L) and o.mode != 0b00)), "unallocated pair")
    size = 8 if o.opc == 0b10 else 4
    base = machine.read_or_sp(o.Rn, 64)
    moved = base + o.signed("imm7") * size
    address = base if o.mode == POST_INDEX else moved
    writeback = o.mode in (POST_INDEX, PRE_INDEX)
    o.require(not (writeback and o.Rn != STACK_POINTER and o.Rn in (o.Rt, o.Rt2)), "writeback to Rt")
    if o.L:
        o.require(o.Rt != o.Rt2, "pair load into one register")
        values = [machine.load(address, size), machine.load(address + size, size)]
        for register, value in zip((o.Rt, o.Rt2), values, strict=True):
            machine.write(register, sign_extend(value, 64) if o.opc == 0b01 else value)
    else:
        machine.store(address, machine.read(o.Rt, 8 * size), size)
        machine.store(address + size, machine.read(o.Rt2, 8 * size), size)
    if writeback:
        machine.write_or_sp(o.Rn, moved)
    return None


@GROUP.encoding("LDR, LDRSW (literal)", "opc:2 011 0 00 imm19:19 Rt:5")
def literal(machine: Machine, o: Operands) -> Flow:
    o.require(o.opc != 0b11, "prefetch")
    value = machine.load(word(machine.pc + 4 * o.signed("imm19")), 8 if o.opc == 0b01 else 4)
    machine.write(o.Rt, sign_extend(value, 64) if o.opc == 0b10 else value)
    return None


@GROUP.encoding("LDR, STR (unsigned immediate)", "size:2 111 0 01 opc:2 imm12:12 Rn:5 Rt:5")
def unsigned_offset(machine: Machine, o: Operands) -> Flow:
    transfer(machine, o, machine.read_or_sp(o.Rn, 64) + (o.imm12 << o.size))
    return None


@GROUP.encoding(
    "LDUR, STUR, LDR, STR (post- and pre-indexed)",
    "size:2 111 0 00 opc:2 0 imm9:9 mode:2 Rn:5 Rt:5",
)
def signed_offset(machine: Machine, o: Operands) -> Flow:
    o.require(o.mode != 0b10, "unprivileged access")
    base = machine.read_or_sp(o.Rn, 64)
    moved = base + o.signed("imm9")
    writeback = o.mode in (POST_INDEX, PRE_INDEX)
    o.require(not (writeback and o.Rn != STACK_POINTER and o.Rn == o.Rt), "writeback to Rt")
    o.require(not (writeback and o.size == 3 and o.opc > 1), "unallocated")
    transfer(machine, o, base if o.mode == POST_INDEX else moved)
    if writeback:
        machine.write_or_sp(o.Rn, moved)
    return None


@GROUP.encoding("LDR, STR (register)", "size:2 111 0 00 opc:2 1 Rm:5 option:3 S 10 Rn:5 Rt:5")
def register_offset(machine: Machine, o: Operands) -> Flow:
    o.require(bool(o.option & 0b010), "reserved extension")
    offset = extend_register(machine, o.Rm, o.option, o.size if o.S else 0, 64)
    transfer(machine, o, machine.read_or_sp(o.Rn, 64) + offset)
    return None


@GROUP.encoding("LDAR, STLR", "size:2 001000 1 L 0 11111 1 11111 Rn:5 Rt:5")
def ordered(machine: Machine, o: Operands) -> Flow:
    size = 1 << o.size
    address = machine.read_or_sp(o.Rn, 64)
    machine.event(Atomic("LDAR" if o.L else "STLR", bool(o.L), not o.L, size, address))
    if o.L:
        machine.write(o.Rt, zero_extend(machine.load(address, size), 64))
    else:
        machine.store(address, machine.read(o.Rt, 8 * size), size)
    return None
