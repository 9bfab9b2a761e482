"""Atomic memory operations of FEAT_LSE (DDI 0487 section C4.1.94, "Atomic memory operations" and "Compare
and swap").

The semantics is that of one processing element running alone; the event says where another may interfere,
and whether the access acquires or releases.
"""

from __future__ import annotations

from ..smt import choose, signed_less, unsigned_less
from .diagram import Group, Operands
from .events import Atomic
from .machine import Flow, Machine

GROUP = Group()
OPERATIONS = ("LDADD", "LDCLR", "LDEOR", "LDSET", "LDSMAX", "LDSMIN", "LDUMAX", "LDUMIN")
ZERO_REGISTER = 31


@GROUP.encoding(
    "LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP",
    "size:2 111 0 00 A R 1 Rs:5 o3 opc:3 00 Rn:5 Rt:5",
)
def read_modify_write(machine: Machine, o: Operands) -> Flow:
    o.require(not o.o3 or o.opc == 0, "unallocated or unmodelled atomic operation")
    # The reference implementation of the tests gets these wrong, so they stay unmodelled.
    o.require(o.opc not in (0b100, 0b101) or o.size == 3, "signed minimum or maximum below 64 bits")
    size = 1 << o.size
    address, operand = machine.read_or_sp(o.Rn, 64), machine.read(o.Rs, 8 * size)
    kind = "SWP" if o.o3 else OPERATIONS[o.opc]
    machine.event(Atomic(kind, bool(o.A) and o.Rt != ZERO_REGISTER, bool(o.R), size, address))
    old = machine.load(address, size)
    if o.o3:
        new = operand
    else:
        new = (
            lambda: old + operand,
            lambda: old & ~operand,
            lambda: old ^ operand,
            lambda: old | operand,
            lambda: choose(signed_less(operand, old), old, operand),
            lambda: choose(signed_less(old, operand), old, operand),
            lambda: choose(unsigned_less(operand, old), old, operand),
            lambda: choose(unsigned_less(old, operand), old, operand),
        )[o.opc]()
    machine.store(address, new, size)
    machine.write(o.Rt, old)
    return None


@GROUP.encoding("CAS, CASA, CASL, CASAL", "size:2 001000 1 L 1 Rs:5 o0 11111 Rn:5 Rt:5")
def compare_and_swap(machine: Machine, o: Operands) -> Flow:
    size = 1 << o.size
    address = machine.read_or_sp(o.Rn, 64)
    expected, new = machine.read(o.Rs, 8 * size), machine.read(o.Rt, 8 * size)
    machine.event(Atomic("CAS", bool(o.L), bool(o.o0), size, address))
    old = machine.load(address, size)
    machine.store(address, choose(old == expected, new, old), size)
    machine.write(o.Rs, old)
    return None
