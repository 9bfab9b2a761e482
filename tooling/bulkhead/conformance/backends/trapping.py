"""A VM's program of instructions that trap, each followed by one that ends the VM's turn: whatever it does, it stops.

Trust label: TOOL. Execution starts at any of them with any registers, which the test has put into the context. What the
CPU tells EL2 of each is here, too. Encodings: Arm ARM DDI 0487, C6.2; syndromes: D24.2.40 `ESR_EL2`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.registers.table import MODELS, Encoding
from bulkhead.spec.calls.traps import IDENTIFICATION, IGNORED, TABLE, packed
from bulkhead.spec.syndrome import (
    EC_DATA_ABORT,
    EC_HVC,
    EC_INSTRUCTION_ABORT,
    EC_SMC,
    EC_SYSTEM,
    EC_WFX,
    ISV,
    SIGNED,
    WIDE,
    WRITE,
)

EC_SHIFT, IL = 26, 1 << 25
EC_SVE = 0x19
WFI, HVC, SMC, SPIN, RDVL = 0xD503207F, 0xD4000002, 0xD4000003, 0x14000000, 0x04BF5000
"""SPIN branches to itself; RDVL needs SVE, which no VM has."""
ALWAYS = 1 << 24 | 0xE << 20
"""COND of an A64 instruction."""
VECTORS, FIRST = 0, 0x800
"""Offsets: VBAR_EL1, and the first instruction."""
VECTOR_SIZE = 0x80
BASES = (2, 9, 28)
"""Registers with the address of an access."""
TRANSFERS = (0, 1, 5, 17, 18, 30, 31)
"""Registers that are loaded, stored and moved."""
DEBUG_PLACES = ((0, 4), (3, 4), (5, 4), (0, 5), (3, 5), (5, 5), (0, 6), (3, 6), (0, 7), (3, 7))
"""CRm and op2 of breakpoint and watchpoint registers that every CPU has."""


@dataclass(frozen=True)
class Instruction:
    """An instruction; the syndrome of its exception, without the fault status; for a load or store the register with
    the address and the bytes that it touches. One without a syndrome runs until it is interrupted.
    """

    word: int
    syndrome: int | None
    base: int | None = None
    bytes: int = 0

    @property
    def at_el0(self) -> bool:
        """Whether it comes to EL2 from EL0 as well."""
        return self.base is not None or self.word in (WFI, SPIN)


@dataclass(frozen=True)
class Access:
    """A kind of load or store: its encoding without registers, log2 of its bytes, whether it extends the sign, has a
    64-bit register, stores.
    """

    word: int
    size: int
    signed: bool = False
    wide: bool = False
    store: bool = False

    def of(self, transfer: int, base: int) -> Instruction:
        """With these registers."""
        iss = 1 << ISV | self.size << 22 | self.signed << SIGNED | transfer << 16 | self.wide << WIDE
        iss |= self.store << WRITE
        return Instruction(
            self.word | base << 5 | transfer, EC_DATA_ABORT << EC_SHIFT | IL | iss, base, 1 << self.size
        )


ACCESSES = (
    Access(0x39000000, 0, store=True),
    Access(0x39400000, 0),
    Access(0x39800000, 0, signed=True, wide=True),
    Access(0x39C00000, 0, signed=True),
    Access(0x79000000, 1, store=True),
    Access(0x79400000, 1),
    Access(0x79800000, 1, signed=True, wide=True),
    Access(0x79C00000, 1, signed=True),
    Access(0xB9000000, 2, store=True),
    Access(0xB9400000, 2),
    Access(0xB9800000, 2, signed=True, wide=True),
    Access(0xF9000000, 3, wide=True, store=True),
    Access(0xF9400000, 3, wide=True),
)
LOAD_PAIR, STORE_PAIR = 0xA9400000, 0xA9000000
"""LDP and STP of X registers, of which the syndrome does not tell the registers."""


SINGLE = ("ICC_SGI1R_EL1", "MDSCR_EL1", "CNTPCT_EL0", "OSLSR_EL1", "CNTP_CTL_EL0", "PMCR_EL0")
"""Registers of which each traps in its own way."""


def unpacked(register: int) -> Encoding:
    """op0, op1, CRn, CRm, op2 of a register as in a syndrome."""
    return (
        register >> 20 & 3,
        register >> 14 & 7,
        register >> 10 & 0xF,
        register >> 1 & 0xF,
        register >> 17 & 7,
    )


def move(register: int, transfer: int, read: bool) -> Instruction:
    """MRS or MSR of a register as in a syndrome."""
    op0, op1, crn, crm, op2 = unpacked(register)
    word = 0xD5000000 | read << 21 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | transfer
    return Instruction(word, EC_SYSTEM << EC_SHIFT | IL | register | transfer << 5 | read)


def _moves() -> Iterator[Instruction]:
    """Of registers that trap, in the directions that they have: anything else is UNDEFINED before it traps."""
    reserved = tuple((3, 0, 0, crm, 7) for crm in (1, 3, 7))
    debug = tuple((2, 0, 0, crm, op2) for crm, op2 in DEBUG_PLACES)
    single = [TABLE.named(name).first for name in SINGLE]
    ignored = (encoding for encoding in map(unpacked, sorted(IGNORED)) if encoding[0] > 1)
    numbers = cycle(TRANSFERS)
    for encoding in (*single, *debug, *reserved, *map(unpacked, sorted(IDENTIFICATION)), *ignored):
        line = TABLE.at(encoding)
        assert line is not None
        for direction in line.directions if line.group.on == MODELS else ():
            yield move(packed(encoding), next(numbers), read=direction == "r")
    for transfer in TRANSFERS:
        yield move(packed(single[0]), transfer, read=False)
        yield move(packed(single[1]), transfer, read=False)


def _accesses() -> Iterator[Instruction]:
    for position, access in enumerate(ACCESSES):
        for transfer in TRANSFERS:
            yield access.of(transfer, BASES[position % len(BASES)])
    for base in BASES:
        pair = base << 5 | 3 << 10 | 4
        yield Instruction(LOAD_PAIR | pair, EC_DATA_ABORT << EC_SHIFT | IL, base, 16)
        yield Instruction(STORE_PAIR | pair, EC_DATA_ABORT << EC_SHIFT | IL | 1 << WRITE, base, 16)


class Program:
    """The page or pages of the program, for a VM with its RAM at `base`."""

    def __init__(self, base: int) -> None:
        self.base, self.vectors = base, base + VECTORS
        self.wait = Instruction(WFI, EC_WFX << EC_SHIFT | IL | ALWAYS)
        self.call = Instruction(HVC, EC_HVC << EC_SHIFT | IL)
        self.smc = Instruction(SMC, EC_SMC << EC_SHIFT | IL)
        self.sve = Instruction(RDVL, EC_SVE << EC_SHIFT | IL)
        self.spin = Instruction(SPIN, None)
        self.moves, self.accesses = tuple(_moves()), tuple(_accesses())
        kinds = (self.wait, self.call, self.smc, self.sve, self.spin, *self.moves, *self.accesses)
        self.places = {one: base + FIRST + 8 * position for position, one in enumerate(kinds)}
        """Instruction → its address."""
        self._at = {place: one for one, place in self.places.items()}
        self.end = base + -(-(FIRST + 8 * len(kinds)) // PAGE) * PAGE

    def at(self, address: int) -> Instruction:
        """What is executed at an address of the program. KeyError between instructions."""
        if address in self._at:
            return self._at[address]
        is_vector = address < self.base + FIRST and address % VECTOR_SIZE == 0
        if is_vector or address - 4 in self._at:
            return self.wait
        raise KeyError(address)

    def pages(self) -> list[bytes]:
        """The content."""
        words = [0] * ((self.end - self.base) // 4)
        for offset in range(0, FIRST, VECTOR_SIZE):
            words[offset // 4] = WFI
        for one, place in self.places.items():
            words[(place - self.base) // 4] = one.word
            words[(place - self.base) // 4 + 1] = WFI
        content = struct.pack(f"<{len(words)}I", *words)
        return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]


@cache
def program(base: int) -> Program:
    """The one for RAM at `base`."""
    return Program(base)


FETCH = EC_INSTRUCTION_ABORT << EC_SHIFT | IL
"""Syndrome of a fetch that stage 2 stops, without its fault status."""
