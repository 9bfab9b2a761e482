"""What an instruction sees of the machine, and what it says about the next instruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bulkhead.errors import BulkheadError

from ..smt import Bits, Bool
from .events import Event, SystemName

ADDRESS_MASK = 2**64 - 1


class UnknownInstruction(BulkheadError):
    """The word is unallocated, CONSTRAINED UNPREDICTABLE, or outside the modelled subset."""

    def __init__(self, instruction: int, why: str = "no encoding diagram matches") -> None:
        super().__init__(
            f"instruction word {instruction:08x}: {why}",
            where=f"A64 word {instruction:08x}",
            hint="describe the encoding in tooling/bulkhead/prove/isa, or keep it out of proved code",
        )
        self.instruction = instruction


class Flags(NamedTuple):
    """PSTATE.{N,Z,C,V} (section C1.2.4)."""

    n: Bool
    z: Bool
    c: Bool
    v: Bool


class Machine(Protocol):
    """Registers, memory and events of one processing element.

    Register numbers are 0..30; 31 is the zero register in `read` and `write` and the current stack
    pointer in `read_or_sp` and `write_or_sp`. A write of 32 bits clears the upper half (section
    C1.2.5).
    """

    pc: int
    flags: Flags

    def read(self, number: int, width: int) -> Bits: ...
    def read_or_sp(self, number: int, width: int) -> Bits: ...
    def write(self, number: int, value: Bits) -> None: ...
    def write_or_sp(self, number: int, value: Bits) -> None: ...
    def load(self, address: Bits, size: int) -> Bits: ...
    def store(self, address: Bits, value: Bits, size: int) -> None: ...
    def read_system(self, name: SystemName) -> Bits: ...
    def event(self, event: Event) -> None: ...


@dataclass(frozen=True)
class Jump:
    """Always continue at `target`."""

    target: int


@dataclass(frozen=True)
class Branch:
    """Continue at `target` where `condition` holds, else behind this instruction."""

    condition: Bool
    target: int


@dataclass(frozen=True)
class Indirect:
    """Continue at the address in a register."""

    target: Bits


@dataclass(frozen=True)
class Return:
    """ERET: leave for the exception level and address in SPSR_EL2 and ELR_EL2."""


Flow = Jump | Branch | Indirect | Return | None
"""How control goes on; None is the instruction behind."""
