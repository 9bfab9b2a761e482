"""What a call did, in steps that mean something: barriers, maintenance and stores to records and tables, with operands.

Trust label: TOOL. A step is a tuple: its name, then its operands as integers. Encodings: Arm ARM DDI 0487, C5.1 (system
instructions), C6.2 (barriers, CASAL, STLR). The leaves, which are the engine's only loops over memory, are one step
each, and what is wrong inside one is said by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bulkhead.image.memory_map import window
from bulkhead.inspect.symbols import Symbols
from bulkhead.trace import leaf
from bulkhead.trace.leaf import RAM, Step
from bulkhead.trace.probe import EXECUTED, STORED, Record

BARRIERS = {0xD503309F: "dsb", 0xD50330BF: "dmb", 0xD50330DF: "isb"}
OPTIONS = {
    0b1111: "sy",
    0b1110: "st",
    0b1011: "ish",
    0b1010: "ishst",
    0b0111: "nsh",
    0b0110: "nshst",
    0b1001: "ishld",
}
SYSTEM = {
    (1, 4, 8, 0, 1): "tlbi ipas2e1is", (1, 4, 8, 4, 1): "tlbi ipas2e1", (1, 0, 8, 3, 0): "tlbi vmalle1is",
    (1, 0, 8, 7, 0): "tlbi vmalle1", (1, 4, 8, 3, 6): "tlbi vmalls12e1is", (1, 4, 8, 7, 6): "tlbi vmalls12e1",
    (1, 0, 7, 1, 0): "ic ialluis", (1, 0, 7, 5, 0): "ic iallu", (1, 3, 7, 14, 1): "dc civac",
    (1, 3, 7, 10, 1): "dc cvac", (1, 0, 7, 6, 1): "dc ivac", (1, 3, 7, 4, 1): "dc zva",
    (3, 4, 2, 1, 0): "msr VTTBR_EL2", (3, 4, 2, 1, 2): "msr VTCR_EL2",
}  # fmt: skip
"""System instructions, and the registers whose writes are steps, by op0, op1, CRn, CRm, op2."""
TABLES = {
    "FRAMES": "record of frame",
    "BLOCKS": "record of block",
    "HOST_L2": "host entry",
    "DMA_L2": "device entry",
}
"""Window of words → what a store there is called; the operands are the index and, for entries, the value."""
VALUED = ("HOST_L2", "DMA_L2")
_CASAL, _STLR, _RET = 0xC8E0FC00, 0xC89FFC00, 0xD65F03C0
LEAVES = ("zero_frame", "clean_frame", "zero_block", "fill_table", "fill_frame_records", "fill_vm_records",
          "measure_frame", "measure_words", "smmu_invalidate", "clear_vm", "table_is_empty")  # fmt: skip
"""Functions `bulkhead_NAME` that are one step each, whatever they call."""
UNSPECIFIED = ("clear_vm", "table_is_empty")
"""Those that are no event of the specification: it has only their result."""


@dataclass(frozen=True)
class Happened:
    """A step, the address of its instruction, and what is wrong inside it, if it is a leaf."""

    step: Step
    pc: int
    faults: tuple[str, ...] = ()


class Reader:
    """Turns records of one image into steps."""

    def __init__(self, symbols: Symbols, base: int, words: Sequence[int], ram_base: int, frames: int) -> None:
        """`words` are the engine's instructions from `base` on; RAM is `frames` frames from physical `ram_base`."""
        self._base, self._words = base, words
        self._lock = symbols.address("LOCK")
        found = {
            one.name.removeprefix("bulkhead_"): one for one in symbols.all if one.name.startswith("bulkhead_")
        }
        self._leaves = {
            pc: name
            for name in LEAVES
            if name in found
            for pc in range(found[name].address, found[name].address + found[name].size, 4)
        }
        self._ram = range(window("RAM").base + ram_base, window("RAM").base + ram_base + (frames << 12))
        self._ram_base = ram_base
        self._tables = {
            name: range(window(name).base, window(name).base + window(name).size) for name in TABLES
        }
        self._vms = symbols.address("VMS")

    def word(self, pc: int) -> int:
        """The instruction at `pc`."""
        return self._words[(pc - self._base) // 4]

    def steps(self, records: Iterable[Record]) -> Iterator[Happened]:
        """All steps of one CPU's records, in their order."""
        inside: list[Record] = []
        name = ""
        for record in records:
            name = name or self._leaves.get(record.pc, "")
            if not name:
                step = self.step(record)
                if step is not None:
                    yield Happened(step, record.pc)
                continue
            inside.append(record)
            if self._leaves.get(record.pc) == name and self.word(record.pc) == _RET:
                if name not in UNSPECIFIED:
                    yield self._whole_leaf(name, inside)
                inside, name = [], ""

    def _whole_leaf(self, name: str, records: list[Record]) -> Happened:
        body = [(record, self.step(record) if record.kind == EXECUTED else None) for record in records]
        step, faults = leaf.summary(name, body, self._ram_base, self._vms)
        return Happened(step, records[0].pc, tuple(faults))

    def step(self, record: Record) -> Step | None:
        """The step that one record is, if it is one."""
        if record.kind == EXECUTED:
            return self._executed(self.word(record.pc), record.value)
        if record.kind == STORED:
            return self._stored(record, self.word(record.pc))
        return None

    @staticmethod
    def _executed(word: int, operand: int) -> Step | None:
        name = BARRIERS.get(word & 0xFFFFF0FF)
        if name:
            return (name,) if name == "isb" else (f"{name} {OPTIONS.get(word >> 8 & 15, '?')}",)
        if word & 0xFFE00000 != 0xD5000000:
            return None
        system = SYSTEM.get((word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7))
        if system:
            return (system, operand)
        maintenance = word >> 19 & 3 == 1 and word >> 12 & 15 in (7, 8)
        return (f"sys #{word >> 5 & 0x3FFF:#x}", operand) if maintenance else None

    def _stored(self, record: Record, word: int) -> Step | None:
        if record.address == self._lock:
            return self._lock_step(record, word)
        for name, place in self._tables.items():
            if record.address in place:
                index = (record.address - place.start) // 8
                odd = "" if record.size == 8 and record.address % 8 == 0 else f" in {record.size} bytes"
                return (
                    (TABLES[name] + odd, index, record.value)
                    if name in VALUED
                    else (TABLES[name] + odd, index)
                )
        if record.address in self._ram:
            return (RAM, (record.address - self._ram.start) // 8, record.value)
        return None

    def _lock_step(self, record: Record, word: int) -> Step:
        if record.value:
            return ("lock",) if word & 0xFFE0FC00 == _CASAL else ("lock without acquire and release",)
        return ("unlock",) if word & 0xFFFFFC00 == _STLR else ("unlock without release",)


def critical(happened: Iterable[Happened]) -> list[list[Happened]]:
    """The parts from taking the lock to giving it back, both included."""
    parts: list[list[Happened]] = []
    open_ = False
    for one in happened:
        if str(one.step[0]).startswith("lock"):
            parts.append([])
            open_ = True
        if open_:
            parts[-1].append(one)
        if str(one.step[0]).startswith("unlock"):
            open_ = False
    return parts
