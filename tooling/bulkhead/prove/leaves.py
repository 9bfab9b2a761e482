"""The contracts of the leaf functions: the complete list of their stores, cache operations and barriers.

A leaf may touch one frame or one block, wherever it is, and nothing else; that it exists and may be touched is the
callers' obligation. `contracts.ASSUMED` are not among them. `leaf_proof` proves them on the leaves' own code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bulkhead.spec import stage2
from bulkhead.spec.state import HOST, RECORD_FIELDS, VmWord

from . import isa, layout, smt
from .exec.state import Store, TraceItem
from .lowering import SY, dsb
from .smt import Bits
from .symbolic import pack

CTR_EL0 = (3, 3, 0, 0, 1)
DC_CIVAC = (1, 3, 7, 14, 1)
WORDS = stage2.TABLE_ENTRIES
LINE_WORDS = 8


@dataclass(frozen=True)
class Setting:
    """One way to call a leaf: its arguments, the frame it may touch, and the trace that it has to leave."""

    arguments: Mapping[int, Bits]
    base: Bits
    trace: list[TraceItem]
    system_registers: Mapping[isa.SystemName, Bits] = field(default_factory=dict)
    words: int = WORDS
    result: Bits | None = None


@dataclass(frozen=True)
class Loop:
    """A leaf with `turns` turns, each of which leaves the trace of its number; `setting` has what follows the last."""

    setting: Setting
    turns: int
    trace: Callable[[Bits], list[TraceItem]]


def frame_word(index: int) -> Bits:
    """What a word of the frame holds before the call."""
    return smt.function("frame_content", 64, 64)(smt.word(index))


def word_stores(value: Callable[[int], Bits]) -> list[TraceItem]:
    """A store to each of 512 words, in ascending order."""
    return [Store("FRAME", smt.word(index), smt.simplify(value(index))) for index in range(WORDS)]


def in_ram_window(address: Bits) -> Bits:
    """Where the engine sees a physical address."""
    return smt.simplify(address + layout.window("RAM"))


def zero_frame() -> list[Setting]:
    """Zero in each word."""
    address = smt.variable("address")
    return [Setting({0: address}, in_ram_window(address), word_stores(lambda _: smt.word(0)))]


def clean_frame() -> list[Setting]:
    """For every line size that CTR_EL0.DminLine can say: each line of the frame, then DSB SY."""
    address = smt.variable("address")
    base = in_ram_window(address)
    settings = []
    for minimum in range(16):
        lines = range(0, stage2.FRAME_SIZE, 4 << minimum)
        trace: list[TraceItem] = [
            isa.SystemInstruction(DC_CIVAC, smt.simplify(base + line)) for line in lines
        ]
        cache_type = smt.concat(smt.variable("high", 44), smt.word(minimum, 4), smt.variable("low", 16))
        settings.append(Setting({0: address}, base, [*trace, dsb(SY)], {CTR_EL0: cache_type}))
    return settings


def fill_table() -> list[Setting]:
    """The page descriptors of 512 consecutive frames from the address in x1."""
    address, first = smt.variable("address"), smt.variable("first")
    stores = word_stores(lambda index: (first + stage2.FRAME_SIZE * index) | stage2.PAGE)
    return [Setting({0: address, 1: first}, in_ram_window(address), stores)]


def fill_frame_records() -> list[Setting]:
    """HOST in the 512 records of a block."""
    block = smt.variable("block")
    base = smt.simplify((block << (stage2.TABLE_SHIFT + 3)) + layout.window("FRAMES"))
    return [Setting({0: block}, base, word_stores(lambda _: pack(HOST)))]


def fill_vm_records() -> list[Setting]:
    """The record in x1 with slots 0 to 511 in the 512 records of a block."""
    block, record = smt.variable("block"), smt.variable("record")
    base = smt.simplify((block << (stage2.TABLE_SHIFT + 3)) + layout.window("FRAMES"))
    low, width = RECORD_FIELDS["slot"]
    without_slot = record & ~(((1 << width) - 1) << low)
    stores = word_stores(lambda index: without_slot | index << low)
    return [Setting({0: block, 1: smt.simplify(without_slot)}, base, stores)]


def table_is_empty() -> list[Setting]:
    """No store; 1 exactly if bit 0 of all words is zero."""
    address = smt.variable("address")
    empty = smt.both(*(frame_word(index) & 1 == 0 for index in range(WORDS)))
    result = smt.choose(empty, smt.word(1), smt.word(0))
    return [Setting({0: address}, in_ram_window(address), [], result=result)]


BLOCK_WORDS = WORDS * WORDS
TURN_WORDS = 16
"""Words that one turn of the loop over a block zeroes: two cache lines of 64 bytes, the least that there are."""


def zero_block() -> Loop:
    """Zero in each word of a block, each line cleaned and invalidated behind its stores; DSB SY at the end."""
    address = smt.variable("address")
    base = in_ram_window(address)

    def turn(number: Bits) -> list[TraceItem]:
        first = smt.simplify(number * smt.word(TURN_WORDS))
        items: list[TraceItem] = []
        for line in range(0, TURN_WORDS, LINE_WORDS):
            stores = range(line, line + LINE_WORDS)
            items += [Store("FRAME", smt.simplify(first + index), smt.word(0)) for index in stores]
            place = smt.simplify(base + ((first + line) << 3))
            items.append(isa.SystemInstruction(DC_CIVAC, place))
        return items

    setting = Setting({0: address}, base, [dsb(SY)], words=BLOCK_WORDS)
    return Loop(setting, BLOCK_WORDS // TURN_WORDS, turn)


def clear_vm() -> list[Setting]:
    """Zero in each of 64 words, the state of the VM last."""
    record = smt.variable("record")
    stores: list[TraceItem] = [Store("FRAME", smt.word(index), smt.word(0)) for index in range(63, -1, -1)]
    return [Setting({0: record}, record, stores, words=VmWord.COUNT)]


LEAVES: Mapping[str, Callable[[], list[Setting]]] = {
    "bulkhead_zero_frame": zero_frame,
    "bulkhead_clean_frame": clean_frame,
    "bulkhead_fill_table": fill_table,
    "bulkhead_fill_frame_records": fill_frame_records,
    "bulkhead_fill_vm_records": fill_vm_records,
    "bulkhead_table_is_empty": table_is_empty,
    "bulkhead_clear_vm": clear_vm,
}
"""Leaves whose contracts are proved by following all rounds, with all ways to call them."""
LOOPS: Mapping[str, Callable[[], Loop]] = {"bulkhead_zero_block": zero_block}
"""Leaves whose contracts are proved by induction over their rounds."""
