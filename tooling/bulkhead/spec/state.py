"""The state that the calls are about: finite maps with named fields.

Frames are counted in 4 KiB from `ram_base`, blocks in 2 MiB; a block holds 512 frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeVar

from .words import Truth, Word, all_of

VM_SLOTS = 64
VCPUS_MAX = 8
RAM_RANGES = 4
CPUS_MAX = 8
Value = TypeVar("Value")


class Kind(IntEnum):
    """What a frame is, or a whole block: ENGINE, HOST, VM_PAGE, and the last three, which are for blocks only."""

    ENGINE = 0
    HOST = 1
    VM_PAGE = 2
    VM_TABLE = 3
    VCPU = 4
    HOST_TABLE = 5
    UNCLEARED = 6
    """The host's, not touched since boot: content unknown, mapped nowhere."""
    DMA = 7
    """The host's, reached by it and by its devices."""
    SPLIT = 15
    """Each frame has a record of its own."""


class Shared(IntEnum):
    """Whether a page of a VM is shared with the host."""

    PRIVATE = 0
    OFFERED = 1
    """By the VM; the host does not reach it yet, or no longer."""
    ACCEPTED = 2
    """The host reaches it."""


class VmState(IntEnum):
    """Life of a VM slot."""

    FREE = 0
    BUILDING = 1
    ACTIVE = 2
    DYING = 3


class Run(IntEnum):
    """Run state of a vCPU, in the parent field of its record; 0x100 | cpu while it is loaded."""

    OFF = 0
    RUNNABLE = 1
    TRANSIT = 2
    LOADED = 0x100


class Record(NamedTuple):
    """The ownership record of a block, or of a frame of a SPLIT block.

    `parent` is the frame of the table that maps it (VM_PAGE, VM_TABLE of level 2 and 3), the block
    (HOST_TABLE) or the run state (VCPU); `slot` is the entry in that table, or the index of the vCPU.
    """

    kind: Word
    level: Word = 0
    vm: Word = 0
    slot: Word = 0
    parent: Word = 0
    shared: Word = 0

    def equals(self, other: Record) -> Truth:
        """Whether all fields agree."""
        return all_of(*(mine == theirs for mine, theirs in zip(self, other, strict=True)))


HOST = Record(Kind.HOST)
RECORD_FIELDS = {
    "kind": (0, 4), "level": (4, 2), "shared": (6, 2), "vm": (8, 16), "slot": (24, 9), "parent": (36, 28),
}  # fmt: skip
"""Where the fields of a record lie in its word: lowest bit and width; the other bits are zero."""


class VmWord:
    """Words of a VM record."""

    STATE, ROOT, VCPU_COUNT, FLAGS = range(4)
    RAM = 4  # base and size of four ranges
    MEASUREMENT = 12  # 4 words
    VCPU = 16  # frame index + 1 of each vCPU
    AFFINITY = 24  # of each vCPU
    COUNTER_OFFSET = 32
    RUNTIME = 33  # 4 words
    COUNT = 64


class CpuWord:
    """Words of what the engine keeps for a CPU about the vCPU that is loaded there."""

    LOADED = 0  # its frame + 1, or 0
    TIMER_LIST = 1  # the list register of the virtual timer
    COUNT = 2


class Map(Protocol[Value]):
    """A total function of a word that can be changed at single keys and at aligned ranges of keys."""

    def __getitem__(self, key: Word) -> Value: ...
    def set(self, key: Word, value: Value, when: Truth) -> None: ...
    def fill(self, first: Word, count: int, value: Callable[[Word], Value], when: Truth) -> None: ...
    def fill_same(self, first: Word, count: int, value: Value, when: Truth) -> None: ...
    def copy(self) -> Map[Value]: ...


Digest = Callable[[tuple[Word, ...], Word | None, Map[Word]], tuple[Word, Word, Word, Word]]
"""SHA-256 (FIPS 180-4) of some words followed by a frame of RAM, if one is given, as four little-endian
words.
"""


Emptiness = Callable[[Map[Word], Word], Truth]
"""Whether no entry of the translation table in a frame is valid."""


def no_valid_entry(ram: Map[Word], table: Word) -> Truth:
    """Bit 0 of all 512 words of the frame is zero (DDI 0487 section D8.3)."""
    return all_of(*(ram[table << 9 | index] & 1 == 0 for index in range(512)))


@dataclass(frozen=True)
class Config:
    """What boot fixes: address of frame 0, number of frames (a multiple of 512) and of CPUs, and whether (1 or 0)
    an SMMU stands between RAM and the host's devices, and whether there is a source of random numbers.
    """

    ram_base: Word
    frames: Word
    cpus: Word = 1
    has_dma: Word = 0
    has_random: Word = 0


class Power(IntEnum):
    """Of a CPU of the host."""

    ABSENT, ON, OFF = range(3)


@dataclass(frozen=True)
class Inputs:
    """What a step learns from outside of the engine's state, and the specification leaves open.

    `lock`: 1 while another CPU holds the ownership lock, else 0. `entropy`: 0 while the random source has nothing to
    give; `random`: 192 bits of it, lowest word first. `identification`: the hardware's value of the ID register with
    op0=3, op1=0, CRn=0, by 8 * CRm + op2. `counters`: how many there are of each kind of `stats`. `opaque`: what the
    machine answers to `log_read` (ten words) or `stats` (one). `power`: of the host's CPU with this affinity.
    `firmware`: what it answers to a PSCI call.
    """

    lock: Word = 0
    entropy: Word = 1
    random: tuple[Word, Word, Word] = (0, 0, 0)
    identification: Callable[[Word], Word] = lambda _register: 0
    counters: tuple[Word, Word, Word] = (0, 0, 0)
    opaque: tuple[Word, ...] = ()
    power: Callable[[Word], Word] = lambda _affinity: Power.ABSENT
    firmware: Word = 0


class Nothing:
    """The map of CPUs on which nothing has ever been loaded; it does not change."""

    def __getitem__(self, key: Word) -> Word:
        return 0

    def set(self, key: Word, value: Word, when: Truth) -> None:
        raise TypeError("a state without CPUs cannot load a vCPU")

    def fill(self, first: Word, count: int, value: Callable[[Word], Word], when: Truth) -> None:
        raise TypeError("a state without CPUs cannot load a vCPU")

    def fill_same(self, first: Word, count: int, value: Word, when: Truth) -> None:
        raise TypeError("a state without CPUs cannot load a vCPU")

    def copy(self) -> Nothing:
        return self


NOTHING = Nothing()


@dataclass(frozen=True)
class State:
    """Everything that a call can look at or change.

    `block`: block → Record. `frame`: frame → Record, of SPLIT blocks. `ram`: word of RAM, counted from frame 0 → its
    value; tables are RAM. `host_entry` and `dma_entry`: block → level 2 descriptor of the host and of its devices.
    `vm`: 64 * slot + VmWord → word. `counter` is what the system counter reads during this call. `cpu`: 2 * CPU +
    CpuWord → word, and `inputs`: both of no concern to the calls that change ownership.
    """

    config: Config
    block: Map[Record]
    frame: Map[Record]
    ram: Map[Word]
    host_entry: Map[Word]
    dma_entry: Map[Word]
    vm: Map[Word]
    digest: Digest
    counter: Word = 0
    emptiness: Emptiness = no_valid_entry
    cpu: Map[Word] = NOTHING
    inputs: Inputs = Inputs()

    def copy(self) -> State:
        """An independent state, to be changed by one call."""
        return State(
            self.config,
            self.block.copy(),
            self.frame.copy(),
            self.ram.copy(),
            self.host_entry.copy(),
            self.dma_entry.copy(),
            self.vm.copy(),
            self.digest,
            self.counter,
            self.emptiness,
            self.cpu.copy(),
            self.inputs,
        )

    def is_empty(self, table: Word) -> Truth:
        """No entry of the table in this frame is valid."""
        return self.emptiness(self.ram, table)

    def cpu_word(self, cpu: Word, word: Word) -> Word:
        """A word that the engine keeps for a CPU."""
        return self.cpu[cpu << 1 | word]

    def vm_word(self, vm: Word, word: Word) -> Word:
        """A word of the record of a VM."""
        return self.vm[vm << 6 | word]
