"""The whole state that a call can change, and what two states differ in.

Trust label: TOOL. Everything is read from raw memory: block, frame and VM records, the level 2 descriptors of the
host and of its devices, and the content of every frame of split blocks (translation tables and vCPU contexts among
them).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE, Layout
from bulkhead.conformance.oracle.walk import Memory
from bulkhead.inspect.records import VM_RECORD, VM_SLOTS, VM_WORDS, FrameRecord, Kind, VmState

WORD = 8
FIELD_NAMES = {
    0: "state", 1: "root", 2: "vcpu_count", 3: "flags", 32: "counter_offset",
    **{4 + 2 * n: f"ram{n}_base" for n in range(4)},
    **{5 + 2 * n: f"ram{n}_size" for n in range(4)},
    **{12 + n: f"measurement{n}" for n in range(4)},
    **{16 + n: f"vcpu{n}" for n in range(8)},
    **{33 + n: f"runtime{n}" for n in range(4)},
}  # fmt: skip
"""Names of the words of a VM record."""


def unpack(data: bytes) -> tuple[int, ...]:
    """Little-endian 64-bit words."""
    return struct.unpack(f"<{len(data) // WORD}Q", data)


@dataclass(frozen=True)
class Changes:
    """What differs between two snapshots; every value is (before, after).

    Keys: `blocks`, `host_level2` and `dma_level2` the physical address of a block, `frames` that of a
    frame, `vms` (slot, name of the word); `contents` is the set of frames whose 4096 bytes differ.
    """

    blocks: dict[int, tuple[FrameRecord, FrameRecord]] = field(default_factory=dict)
    frames: dict[int, tuple[FrameRecord, FrameRecord]] = field(default_factory=dict)
    vms: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    host_level2: dict[int, tuple[int, int]] = field(default_factory=dict)
    dma_level2: dict[int, tuple[int, int]] = field(default_factory=dict)
    contents: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        words = self.blocks or self.frames or self.vms or self.host_level2 or self.dma_level2
        return bool(words or self.contents)

    def __str__(self) -> str:
        return "\n".join(self._lines()) or "nothing"

    def _lines(self) -> Iterator[str]:
        for address, (record, new_record) in self.blocks.items():
            yield f"block {address:#x}: {_record_changes(record, new_record)}"
        for address, (record, new_record) in self.frames.items():
            yield f"frame {address:#x}: {_record_changes(record, new_record)}"
        for (slot, name), (word, new_word) in self.vms.items():
            show = _state if name == "state" else hex
            yield f"vm {slot} {name}: {show(word)} -> {show(new_word)}"
        for address, (word, new_word) in self.host_level2.items():
            yield f"host level 2 for {address:#x}: {word:#x} -> {new_word:#x}"
        for address, (word, new_word) in self.dma_level2.items():
            yield f"devices' level 2 for {address:#x}: {word:#x} -> {new_word:#x}"
        for address in sorted(self.contents):
            yield f"content of frame {address:#x} differs"


@dataclass(frozen=True)
class Snapshot:
    """Raw bytes; `records` and `contents` by physical address of a split block."""

    layout: Layout
    blocks: bytes
    host_level2: bytes
    dma_level2: bytes
    vms: bytes
    records: dict[int, bytes]
    contents: dict[int, bytes]

    @classmethod
    def take(cls, memory: Memory, *, contents: bool = True) -> Snapshot:
        """Read everything from a machine that is not in the middle of a call, or all but the frames' contents."""
        layout, read = memory.layout, memory.physical
        blocks = read(layout.block_records, layout.blocks * WORD)
        split = [layout.ram_base + n * BLOCK for n, word in enumerate(unpack(blocks)) if word == Kind.SPLIT]
        return cls(
            layout,
            blocks,
            read(layout.host_level2, layout.blocks * WORD),
            read(layout.dma_level2, layout.blocks * WORD),
            read(layout.vm_records, VM_SLOTS * VM_RECORD.size),
            {block: read(frame_record_address(layout, block), FRAMES_IN_BLOCK * WORD) for block in split},
            {block: read(block, BLOCK) for block in split if contents},
        )

    def changes(self, after: Snapshot) -> Changes:
        """What `after` differs in."""
        return Changes(
            {
                block: (FrameRecord.decode(old), FrameRecord.decode(new))
                for block, (old, new) in self._block_changes(self.blocks, after.blocks).items()
            },
            dict(self._frame_changes(after)),
            {_vm_key(n): (old, new) for n, old, new in _differences(self.vms, after.vms)},
            self._block_changes(self.host_level2, after.host_level2),
            self._block_changes(self.dma_level2, after.dma_level2),
            frozenset(self._content_changes(after)),
        )

    def _block_changes(self, before: bytes, after: bytes) -> dict[int, tuple[int, int]]:
        """Of an array with a word for each block."""
        base = self.layout.ram_base
        return {base + n * BLOCK: (old, new) for n, old, new in _differences(before, after)}

    def _frame_changes(self, after: Snapshot) -> Iterator[tuple[int, tuple[FrameRecord, FrameRecord]]]:
        for block, records in self.records.items():
            for n, old, new in _differences(records, after.records[block]):
                yield block + n * PAGE, (FrameRecord.decode(old), FrameRecord.decode(new))

    def _content_changes(self, after: Snapshot) -> Iterator[int]:
        for block, content in self.contents.items():
            other = after.contents[block]
            if content != other:
                for start in range(0, BLOCK, PAGE):
                    if content[start : start + PAGE] != other[start : start + PAGE]:
                        yield block + start


def records(memory: Memory) -> Iterator[tuple[int, int]]:
    """(physical address, record word) of every frame of a split block."""
    layout = memory.layout
    for n, kind in enumerate(unpack(memory.physical(layout.block_records, layout.blocks * WORD))):
        if kind == Kind.SPLIT:
            block = layout.ram_base + n * BLOCK
            words = memory.physical(frame_record_address(layout, block), FRAMES_IN_BLOCK * WORD)
            yield from ((block + index * PAGE, word) for index, word in enumerate(unpack(words)))


def frame_record_address(layout: Layout, frame: int) -> int:
    """Where the record of the frame at physical address `frame` is."""
    return layout.frame_records + (frame - layout.ram_base) // PAGE * WORD


def _record_changes(record: FrameRecord, new: FrameRecord) -> str:
    """The fields that differ: `kind HOST -> VM_PAGE, vm 0 -> 3`."""
    named = ((one.name, getattr(record, one.name), getattr(new, one.name)) for one in fields(FrameRecord))
    return ", ".join(f"{name} {_word(old)} -> {_word(value)}" for name, old, value in named if old != value)


def _word(value: int) -> str:
    return value.name if isinstance(value, Enum) else str(value)


def _state(word: int) -> str:
    known = {one.value: one.name for one in VmState}
    return known.get(word, hex(word))


def _vm_key(word: int) -> tuple[int, str]:
    slot, index = divmod(word, VM_WORDS)
    return slot, FIELD_NAMES.get(index, f"word{index}")


def _differences(before: bytes, after: bytes) -> list[tuple[int, int, int]]:
    """(index, old, new) of 64-bit words that differ."""
    if before == after:
        return []
    pairs = zip(unpack(before), unpack(after), strict=True)
    return [(index, old, new) for index, (old, new) in enumerate(pairs) if old != new]
