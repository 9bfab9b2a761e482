"""What an instruction does beyond the general registers, the flags and memory.

A program's events, in order and with their operands, are part of what is specified. The names of system
registers and system instructions are the tuple (op0, op1, CRn, CRm, op2) of DDI 0487 section C5.1.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..smt import Bits

SystemName = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Barrier:
    """DSB, DMB, ISB or CLREX with its CRm option (section C6.2, "Shareability domain and access types")."""

    kind: str
    option: int


@dataclass(frozen=True)
class Hint:
    """A hint with an effect that a program can rely on: WFI, WFE, SEV, ESB, CSDB (CRm:op2 in `number`)."""

    number: int


@dataclass(frozen=True)
class SystemInstruction:
    """SYS: TLBI, IC, DC or AT with the value of its register operand."""

    name: SystemName
    operand: Bits


@dataclass(frozen=True)
class WriteSystem:
    """MSR (register)."""

    name: SystemName
    value: Bits


@dataclass(frozen=True)
class WritePstate:
    """MSR (immediate): op1 and op2 name the field, `value` is CRm (section C5.2)."""

    op1: int
    op2: int
    value: int


@dataclass(frozen=True)
class ReadSystem:
    """MRS; `value` is what the machine answered."""

    name: SystemName
    value: Bits


@dataclass(frozen=True)
class Atomic:
    """A read-modify-write of `size` bytes, or an ordered load or store, at `address`."""

    kind: str
    acquire: bool
    release: bool
    size: int
    address: Bits


@dataclass(frozen=True)
class ExceptionCall:
    """SVC, HVC, SMC or BRK with its immediate; control comes back after it."""

    kind: str
    immediate: int


Event = Barrier | Hint | SystemInstruction | WriteSystem | WritePstate | ReadSystem | Atomic | ExceptionCall
