"""The A64 semantics against unicorn (QEMU's translator), on random words of every diagram and of every gap.

What the prover accepts, unicorn must accept and carry out alike: registers, flags, stack pointer, memory
and the next address. What unicorn calls UNDEFINED, the prover must refuse.
"""

from __future__ import annotations

import importlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from unicorn import arm64_const as registers

from bulkhead.prove import isa, smt
from bulkhead.prove.binding import bind
from bulkhead.prove.exec.image import Image
from bulkhead.prove.isa import atomics
from bulkhead.prove.isa.diagram import Encoding
from bulkhead.prove.leaves import LEAVES
from bulkhead.prove.smt import Bits
from bulkhead.prove.theorems import CALLS

pytestmark = pytest.mark.slow

unicorn: Any = importlib.import_module("unicorn")  # only partly annotated

CODE, DATA, DATA_SIZE = 0x10000, 0x40000, 0x4000
MIDDLE = DATA + DATA_SIZE // 2
NOP = 0xD503201F
X = [registers.UC_ARM64_REG_X0 + i for i in range(29)] + [
    registers.UC_ARM64_REG_X29,
    registers.UC_ARM64_REG_X30,
]
CLEAR = (False, False, False, False)
CORNERS = (0, 1, 2**63, 2**64 - 1, 2**31, 2**32 - 1, 2**63 - 1, 0xFFF, 0x1000)
# Diagrams whose effect is an event: unicorn carries them out for real, or traps.
EVENTS = {
    "SVC, HVC, SMC, BRK",
    "Hints",
    "Barriers",
    "MSR (immediate)",
    "SYS",
    "MSR (register)",
    "MRS",
    "ERET",
}
EXTENSIONS = {encoding.title for encoding in atomics.GROUP.encodings}
COMPUTING = [encoding for encoding in isa.ENCODINGS if encoding.title not in EVENTS]


class OutsideData(Exception):
    """The random address missed the data page: no comparison is possible."""


def value_of(term: Bits) -> int:
    value = smt.constant(smt.simplify(term))
    assert value is not None
    return value


@dataclass
class Concrete:
    """A machine with plain numbers, for the same semantics that the proofs use."""

    x: list[int]
    sp: int
    nzcv: tuple[bool, bool, bool, bool]
    memory: bytearray
    pc: int = CODE
    events: list[isa.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flags = isa.Flags(*map(smt.truth, self.nzcv))

    def read(self, number: int, width: int) -> Bits:
        return smt.word(0 if number == 31 else self.x[number], width)

    def read_or_sp(self, number: int, width: int) -> Bits:
        return smt.word(self.sp if number == 31 else self.x[number], width)

    def write(self, number: int, value: Bits) -> None:
        if number != 31:
            self.x[number] = value_of(value)

    def write_or_sp(self, number: int, value: Bits) -> None:
        if number == 31:
            self.sp = value_of(value)
        else:
            self.write(number, value)

    def offset(self, address: Bits, size: int) -> int:
        offset = value_of(address) - DATA
        if not 0 <= offset <= DATA_SIZE - size:
            raise OutsideData
        return offset

    def load(self, address: Bits, size: int) -> Bits:
        offset = self.offset(address, size)
        return smt.word(int.from_bytes(self.memory[offset : offset + size], "little"), 8 * size)

    def store(self, address: Bits, value: Bits, size: int) -> None:
        offset = self.offset(address, size)
        self.memory[offset : offset + size] = value_of(value).to_bytes(size, "little")

    def read_system(self, name: tuple[int, ...]) -> Bits:
        raise AssertionError(f"no system register expected, got {name}")

    def event(self, event: isa.Event) -> None:
        self.events.append(event)

    def next_pc(self, flow: isa.Flow) -> int:
        if isinstance(flow, isa.Jump):
            return flow.target
        if isinstance(flow, isa.Indirect):
            return value_of(flow.target)
        if isinstance(flow, isa.Branch) and smt.is_true(smt.simplify(flow.condition)):
            return flow.target
        return CODE + 4


class Reference:
    """One unicorn instance, reused for every case."""

    def __init__(self, model: int) -> None:
        self.engine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM, model)
        self.engine.mem_map(CODE, 0x1000)
        self.engine.mem_map(DATA, DATA_SIZE)

    def run(self, instruction: int, start: Concrete) -> tuple[bool, int, Concrete]:
        """Whether it ran, where it went, and the machine behind it."""
        engine = self.engine
        engine.mem_write(CODE, instruction.to_bytes(4, "little") + NOP.to_bytes(4, "little") * 4)
        engine.ctl_remove_cache(CODE, CODE + 64)
        for register, value in zip(X, start.x, strict=True):
            engine.reg_write(register, value)
        engine.reg_write(registers.UC_ARM64_REG_SP, start.sp)
        bits = sum(flag << position for flag, position in zip(start.nzcv, (31, 30, 29, 28), strict=True))
        engine.reg_write(registers.UC_ARM64_REG_NZCV, bits)
        engine.mem_write(DATA, bytes(start.memory))
        try:
            engine.emu_start(CODE, CODE + 4, count=1)
            ran = True
        except unicorn.UcError as error:
            # A jump out of the mapped page faults only on the fetch behind it.
            ran = error.errno in (unicorn.UC_ERR_FETCH_UNMAPPED, unicorn.UC_ERR_FETCH_PROT)
        nzcv = engine.reg_read(registers.UC_ARM64_REG_NZCV)
        after = Concrete(
            [engine.reg_read(register) for register in X],
            engine.reg_read(registers.UC_ARM64_REG_SP),
            (bool(nzcv >> 31 & 1), bool(nzcv >> 30 & 1), bool(nzcv >> 29 & 1), bool(nzcv >> 28 & 1)),
            bytearray(engine.mem_read(DATA, DATA_SIZE)),
        )
        return ran, engine.reg_read(registers.UC_ARM64_REG_PC), after


def random_value(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(CORNERS)
    return rng.getrandbits(rng.choice((4, 8, 16, 32)) if kind < 0.4 else 64)


def random_start(rng: random.Random, instruction: int) -> Concrete:
    """Random registers; those that a load or store takes for base and index point at the data."""
    x = [random_value(rng) for _ in range(31)]
    base, index = instruction >> 5 & 31, instruction >> 16 & 31
    if instruction >> 25 & 0b0101 == 0b0100:
        register_form = instruction >> 27 & 7 == 7 and instruction >> 10 & 3 == 2
        if index != 31 and register_form:
            x[index] = rng.randrange(512)
        if base != 31:
            x[base] = MIDDLE + 16 * rng.randrange(-32, 32)
    flags = (rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5)
    return Concrete(x, MIDDLE, flags, bytearray(rng.randbytes(256) * (DATA_SIZE // 256)))


def copy(machine: Concrete) -> Concrete:
    return Concrete(list(machine.x), machine.sp, machine.nzcv, bytearray(machine.memory))


def compare(reference: Reference, rng: random.Random, instruction: int) -> str:
    """Run one word on both; returns what became of it, fails on any difference."""
    start = random_start(rng, instruction)
    mine = copy(start)
    accepted = True
    try:
        flow = isa.step(mine, instruction)
    except isa.UnknownInstruction:
        accepted = False
    except OutsideData:
        return "outside"
    ran, pc, theirs = reference.run(instruction, start)
    if not accepted:
        return "refused by both" if not ran else "refused here only"
    assert ran, f"{instruction:08x} ({isa.decode(instruction).title}) is accepted here, refused by unicorn"
    where = f"{instruction:08x} {isa.decode(instruction).title}"
    assert theirs.x == mine.x, where
    assert theirs.sp == mine.sp, where
    assert list(theirs.nzcv) == [smt.is_true(smt.simplify(flag)) for flag in mine.flags], where
    assert theirs.memory == mine.memory, where
    assert pc == mine.next_pc(flow), where
    return "equal"


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The newest model: it has FEAT_LSE."""
    return Reference(registers.UC_CPU_ARM64_MAX)


@pytest.fixture(scope="module")
def baseline() -> Reference:
    """Armv8.0 without extensions, so that few words are allocated."""
    return Reference(registers.UC_CPU_ARM64_A72)


def random_word(rng: random.Random, encoding: Encoding) -> int:
    """A word of the diagram; PC-relative loads are aimed at the data."""
    instruction = rng.getrandbits(32) & ~encoding.mask | encoding.value
    if "literal" in encoding.title:
        distance = (DATA - CODE) // 4 + rng.randrange(DATA_SIZE // 4)
        instruction = instruction & ~(0x7FFFF << 5) | distance << 5
    return instruction


def test_diagrams_are_disjoint() -> None:
    clashes = [
        (one.title, other.title)
        for position, one in enumerate(isa.ENCODINGS)
        for other in isa.ENCODINGS[:position]
        if one.overlaps(other)
    ]
    assert clashes == []


@pytest.mark.parametrize("encoding", COMPUTING, ids=lambda encoding: encoding.title)
def test_diagram_agrees_with_unicorn(reference: Reference, encoding: Encoding) -> None:
    rng = random.Random(encoding.title)
    outcomes = Counter[str]()
    while outcomes["equal"] < 220:
        instruction = random_word(rng, encoding)
        outcomes[compare(reference, rng, instruction)] += 1
        assert sum(outcomes.values()) < 20000, f"too few comparable words: {outcomes}"


def test_undefined_words_are_refused(baseline: Reference) -> None:
    rng = random.Random("undefined")
    outcomes = Counter[str]()
    for _ in range(6000):
        instruction = rng.getrandbits(32)
        try:
            if isa.decode(instruction).title in EVENTS | EXTENSIONS:
                continue
        except isa.UnknownInstruction:
            pass
        outcomes[compare(baseline, rng, instruction)] += 1
    assert outcomes["refused by both"] > 500, outcomes


@pytest.mark.parametrize(
    ("instruction", "event"),
    [
        (0xD5033B9F, isa.Barrier("DSB", 0b1011)),  # dsb ish
        (0xD5033FDF, isa.Barrier("ISB", 0b1111)),
        (0xD503207F, isa.Hint(3)),  # wfi
        (0xD503221F, isa.Hint(16)),  # esb
        (0xD4000002, isa.ExceptionCall("HVC", 0)),
        (0xD50343DF, isa.WritePstate(3, 6, 3)),  # msr daifset, #3
    ],
)
def test_plain_events(instruction: int, event: isa.Event) -> None:
    machine = Concrete([0] * 31, MIDDLE, CLEAR, bytearray(DATA_SIZE))
    assert isa.step(machine, instruction) is None
    assert machine.events == [event]


def test_events_carry_their_operand() -> None:
    machine = Concrete(list(range(100, 131)), MIDDLE, CLEAR, bytearray(DATA_SIZE))
    isa.step(machine, 0xD50C8325)  # tlbi ipas2e1is? checked by its fields below
    isa.step(machine, 0xD51C2107)  # msr vttbr_el2, x7
    first, second = machine.events
    assert isinstance(first, isa.SystemInstruction) and isinstance(second, isa.WriteSystem)
    assert first.name == (1, 4, 8, 3, 1) and value_of(first.operand) == 105
    assert second.name == (3, 4, 2, 1, 0) and value_of(second.value) == 107


@pytest.mark.parametrize(
    ("instruction", "meaning"),
    [
        (0xC85F7C00, "ldxr"),
        (0xC8007C00, "stxr"),
        (0xD50B7420, "dc zva"),
        (0xD51B4200, "msr nzcv"),
        (0xD500401F, "cfinv"),
        (0xD503233F, "paciasp"),
        (0x4E205800, "cnt v0.16b"),
        (0xF9800000, "prfm"),
        (0x00000000, "udf"),
    ],
)
def test_unmodelled_instructions_are_refused(instruction: int, meaning: str) -> None:
    machine = Concrete([DATA] * 31, MIDDLE, CLEAR, bytearray(DATA_SIZE))
    with pytest.raises(isa.UnknownInstruction):
        isa.step(machine, instruction)
    assert machine.events == [], meaning


def test_words_of_the_proved_code_agree_with_unicorn(reference: Reference, image: Image) -> None:
    """Each distinct instruction of the calls and leaves, a few times; their events have tests of their own."""
    symbols = [image.symbol(bind(image, call).symbol) for call in CALLS] + [
        image.symbol(leaf) for leaf in LEAVES
    ]
    words = {
        image.instruction(pc)
        for symbol in symbols
        for pc in range(symbol.address, symbol.address + symbol.size, 4)
    }
    outcomes = Counter[str]()
    for word in words:
        assert word is not None
        if isa.decode(word).title not in EVENTS:
            rng = random.Random(word)
            for _ in range(4):
                outcomes[compare(reference, rng, word)] += 1
    assert outcomes["equal"] > 1000, outcomes
    assert outcomes["refused here only"] == 0
