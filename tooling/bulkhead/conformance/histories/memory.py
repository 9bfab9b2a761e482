"""The machine's memory before and after a history, as the specification's state, and what two of them differ in.

Trust label: TOOL. Records, descriptors and VM records are looked at as a whole, RAM in the blocks that the program is
about. What a vCPU's context holds is the engine's own affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bulkhead.conformance.backend import BLOCK, PAGE, Layout
from bulkhead.conformance.oracle import pack_record, unpack_record
from bulkhead.conformance.snapshot import WORD, unpack
from bulkhead.conformance.walk import Memory
from bulkhead.inspect.records import VM_RECORD, VM_SLOTS, Kind
from bulkhead.spec import Config, Record, State, plain
from bulkhead.spec.words import Word

WORDS_IN_BLOCK = BLOCK // WORD
RECORDS = ("block", "frame")
"""Maps of the state whose values are records."""


@dataclass(frozen=True)
class Look:
    """Raw memory of a machine at rest: arrays by the names of the specification's maps, RAM by number of a block."""

    layout: Layout
    arrays: dict[str, bytes]
    blocks: dict[int, bytes]

    @classmethod
    def take(cls, memory: Memory, blocks: Sequence[int]) -> Look:
        """Read from a machine; `blocks` are physical addresses."""
        layout, read = memory.layout, memory.physical
        arrays = {
            "block": read(layout.block_records, layout.blocks * WORD),
            "frame": read(layout.frame_records, layout.frames * WORD),
            "host_entry": read(layout.host_level2, layout.blocks * WORD),
            "dma_entry": read(layout.dma_level2, layout.blocks * WORD),
            "vm": read(layout.vm_records, VM_SLOTS * VM_RECORD.size),
        }
        return cls(
            layout, arrays, {(block - layout.ram_base) // BLOCK: read(block, BLOCK) for block in blocks}
        )

    @cached_property
    def views(self) -> dict[str, memoryview]:
        """The arrays as words."""
        return {name: memoryview(data).cast("Q") for name, data in self.arrays.items()}

    @cached_property
    def ram(self) -> dict[int, memoryview]:
        """The blocks as words."""
        return {block: memoryview(data).cast("Q") for block, data in self.blocks.items()}

    def word(self, name: str, key: int) -> int:
        """A word of a map. KeyError for RAM that was not looked at."""
        if name == "ram":
            return self.ram[key // WORDS_IN_BLOCK][key % WORDS_IN_BLOCK]
        return self.views[name][key]

    def changed(self, after: Look) -> dict[str, dict[int, int]]:
        """Words that differ: map → key → new value."""
        found = {name: dict(_changed(data, after.arrays[name], 0)) for name, data in self.arrays.items()}
        found["ram"] = {
            key: word
            for block, data in self.blocks.items()
            for key, word in _changed(data, after.blocks[block], block * WORDS_IN_BLOCK)
        }
        return found

    def state(self, has_dma: int) -> State:
        """As the specification sees it."""

        views, ram = self.views, self.ram

        def words(name: str) -> plain.PlainMap[Word]:
            return plain.PlainMap[Word]({}, views[name].__getitem__)

        def records(name: str) -> plain.PlainMap[Record]:
            return plain.PlainMap({}, lambda key: unpack_record(views[name][key]))

        layout = self.layout
        return State(
            Config(layout.ram_base, layout.frames, layout.cpus, has_dma),
            block=records("block"),
            frame=records("frame"),
            ram=plain.PlainMap[Word]({}, lambda key: ram[key // WORDS_IN_BLOCK][key % WORDS_IN_BLOCK]),
            host_entry=words("host_entry"),
            dma_entry=words("dma_entry"),
            vm=words("vm"),
            digest=plain.sha256,
        )


def _changed(before: bytes, after: bytes, first: int) -> Iterator[tuple[int, int]]:
    if before == after:
        return
    for start in range(0, len(before), PAGE):
        old, new = before[start : start + PAGE], after[start : start + PAGE]
        if old != new:
            for n, (one, other) in enumerate(zip(unpack(old), unpack(new), strict=True)):
                if one != other:
                    yield first + start // WORD + n, other


def differences(changed: dict[str, dict[int, int]], after: Look, state: State) -> Iterator[str]:
    """What memory has and `state` does not, or the other way round; `changed` is what changed in memory."""
    for name, actual in changed.items():
        plain_map = getattr(state, name)
        suspects = {key for key in actual if _as_word(plain_map[key]) != after.word(name, key)}
        suspects |= {
            key for key, value in plain_map.changed().items() if _as_word(value) != after.word(name, key)
        }
        suspects |= set(_surely_not_zero(plain_map, after) if name == "ram" else ())
        for key in sorted(suspects):
            wanted, got = _as_word(plain_map[key]), after.word(name, key)
            if wanted != got and not (name == "ram" and _is_context(state, key)):
                yield f"{_name(name, key, after.layout)} is {_show(name, got)}; specified is {_show(name, wanted)}"


def _as_word(value: Word | Record) -> int:
    return value if isinstance(value, int) else pack_record(value)


def _surely_not_zero(ram: plain.PlainMap[int], after: Look) -> Iterator[int]:
    """Words of ranges that got one value, 0, and are something else."""
    for words, _ in ram.ranges():
        block = words.start // WORDS_IN_BLOCK
        if after.blocks[block].count(0) != BLOCK:
            yield from (words.start + n for n, word in enumerate(after.ram[block]) if word)


def _is_context(state: State, word: int) -> bool:
    """Whether the word of RAM is in the context of a vCPU."""
    frame = word // (PAGE // WORD)
    split = state.block[frame // (BLOCK // PAGE)].kind == Kind.SPLIT
    return bool(split and state.frame[frame].kind == Kind.VCPU)


def _name(name: str, key: int, layout: Layout) -> str:
    """A word for people."""
    match name:
        case "block":
            return f"the record of block {layout.ram_base + key * BLOCK:#x}"
        case "frame":
            return f"the record of frame {layout.ram_base + key * PAGE:#x}"
        case "vm":
            return f"word {key % 64} of VM {key // 64}"
        case "ram":
            return f"RAM at {layout.ram_base + key * WORD:#x}"
    return f"{name} of block {layout.ram_base + key * BLOCK:#x}"


def _show(name: str, word: int) -> str:
    if name not in RECORDS:
        return f"{word:#x}"
    try:
        record = unpack_record(word)
    except ValueError:
        return f"{word:#x}"
    shown = {field: value for field, value in record._asdict().items() if field != "kind" and value}
    inside = ", ".join(f"{field}={value:#x}" for field, value in shown.items())
    kind = record.kind if isinstance(record.kind, int) else 0
    name = Kind(kind).name if kind in set(Kind) else f"{kind:#x}"
    return f"{name}({inside})" if inside else name
