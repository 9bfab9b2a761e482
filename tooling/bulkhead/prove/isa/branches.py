"""Branches, Exception Generating and System instructions (DDI 0487 section C4.1.93)."""

from __future__ import annotations

from ..smt import bit, choose, negate, word
from .diagram import Group, Operands
from .events import (
    Barrier,
    ExceptionCall,
    Hint,
    ReadSystem,
    SystemInstruction,
    WritePstate,
    WriteSystem,
)
from .machine import ADDRESS_MASK, Branch, Flow, Indirect, Jump, Machine, Return
from .shared import condition_holds

GROUP = Group()
LINK = 30

BARRIERS = {0b010: "CLREX", 0b100: "DSB", 0b101: "DMB", 0b110: "ISB"}
HINTS_WITHOUT_EFFECT = {0: "NOP", 1: "YIELD", 32: "BTI", 34: "BTI c", 36: "BTI j", 38: "BTI jc"}
HINTS_WITH_EFFECT = {2: "WFE", 3: "WFI", 4: "SEV", 5: "SEVL", 16: "ESB", 20: "CSDB"}
PSTATE_FIELDS = {(3, 6): "DAIFSet", (3, 7): "DAIFClr", (0, 4): "PAN"}
# Registers that are part of the state that every instruction here reads or writes.
NZCV, SPSEL = (3, 3, 4, 2, 0), (3, 0, 4, 2, 0)
# DC ZVA, DC GVA and DC GZVA write memory or allocation tags.
DC_ZERO = {(1, 3, 7, 4, 1), (1, 3, 7, 4, 3), (1, 3, 7, 4, 4)}


def relative(machine: Machine, words: int) -> int:
    """The address `words` instructions away."""
    return (machine.pc + 4 * words) & ADDRESS_MASK


@GROUP.encoding("B, BL", "op 00101 imm26:26")
def branch(machine: Machine, o: Operands) -> Flow:
    if o.op:
        machine.write(LINK, word(machine.pc + 4))
    return Jump(relative(machine, o.signed("imm26")))


@GROUP.encoding("B.cond", "01010100 imm19:19 0 cond:4")
def branch_conditional(machine: Machine, o: Operands) -> Flow:
    return Branch(condition_holds(machine.flags, o.cond), relative(machine, o.signed("imm19")))


@GROUP.encoding("CBZ, CBNZ", "sf 011010 op imm19:19 Rt:5")
def compare_and_branch(machine: Machine, o: Operands) -> Flow:
    zero = machine.read(o.Rt, o.datasize) == 0
    return Branch(negate(zero) if o.op else zero, relative(machine, o.signed("imm19")))


@GROUP.encoding("TBZ, TBNZ", "b5 011011 op b40:5 imm14:14 Rt:5")
def test_and_branch(machine: Machine, o: Operands) -> Flow:
    one = bit(o.b5 << 5 | o.b40, machine.read(o.Rt, 64))
    return Branch(one if o.op else negate(one), relative(machine, o.signed("imm14")))


@GROUP.encoding("BR, BLR, RET", "1101011 00 opc:2 11111 000000 Rn:5 00000")
def branch_register(machine: Machine, o: Operands) -> Flow:
    o.require(o.opc != 0b11, "unallocated or unmodelled branch to register")
    target = machine.read(o.Rn, 64)
    if o.opc == 0b01:
        machine.write(LINK, word(machine.pc + 4))
    return Indirect(target)


@GROUP.encoding("ERET", "1101011 0100 11111 000000 11111 00000")
def exception_return(_machine: Machine, _o: Operands) -> Flow:
    return Return()


@GROUP.encoding("SVC, HVC, SMC, BRK", "11010100 opc:3 imm16:16 000 LL:2")
def exception_generation(machine: Machine, o: Operands) -> Flow:
    kinds = {(0, 1): "SVC", (0, 2): "HVC", (0, 3): "SMC", (1, 0): "BRK"}
    kind = kinds.get((o.opc, o.LL))
    if kind is None:
        raise o.unknown("unallocated or unmodelled exception generation")
    machine.event(ExceptionCall(kind, o.imm16))
    return None


@GROUP.encoding("Hints", "1101010100 0 00 011 0010 number:7 11111")
def hint(machine: Machine, o: Operands) -> Flow:
    if o.number in HINTS_WITH_EFFECT:
        machine.event(Hint(o.number))
    else:
        o.require(o.number in HINTS_WITHOUT_EFFECT, "unmodelled hint")
    return None


@GROUP.encoding("Barriers", "1101010100 0 00 011 0011 CRm:4 op2:3 11111")
def barrier(machine: Machine, o: Operands) -> Flow:
    kind = BARRIERS.get(o.op2)
    if kind is None:
        raise o.unknown("unallocated or unmodelled barrier")
    machine.event(Barrier(kind, o.CRm))
    return None


@GROUP.encoding("MSR (immediate)", "1101010100 0 00 op1:3 0100 CRm:4 op2:3 11111")
def write_pstate(machine: Machine, o: Operands) -> Flow:
    o.require((o.op1, o.op2) in PSTATE_FIELDS, "unmodelled PSTATE field")
    machine.event(WritePstate(o.op1, o.op2, o.CRm))
    return None


@GROUP.encoding("SYS", "1101010100 0 01 op1:3 CRn:4 CRm:4 op2:3 Rt:5")
def system_instruction(machine: Machine, o: Operands) -> Flow:
    name = (1, o.op1, o.CRn, o.CRm, o.op2)
    o.require(name not in DC_ZERO, "cache instruction that writes memory")
    machine.event(SystemInstruction(name, machine.read(o.Rt, 64)))
    return None


@GROUP.encoding("MSR (register)", "1101010100 0 1 o0 op1:3 CRn:4 CRm:4 op2:3 Rt:5")
def write_system(machine: Machine, o: Operands) -> Flow:
    name = (2 + o.o0, o.op1, o.CRn, o.CRm, o.op2)
    o.require(name not in (NZCV, SPSEL), "write of state that the model keeps elsewhere")
    machine.event(WriteSystem(name, machine.read(o.Rt, 64)))
    return None


@GROUP.encoding("MRS", "1101010100 1 1 o0 op1:3 CRn:4 CRm:4 op2:3 Rt:5")
def read_system(machine: Machine, o: Operands) -> Flow:
    name = (2 + o.o0, o.op1, o.CRn, o.CRm, o.op2)
    if name == NZCV:
        value = word(0)
        for position, flag in zip((31, 30, 29, 28), machine.flags, strict=True):
            value = value | choose(flag, word(1 << position), word(0))
    else:
        value = machine.read_system(name)
        machine.event(ReadSystem(name, value))
    machine.write(o.Rt, value)
    return None
