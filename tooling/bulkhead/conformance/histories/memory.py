"""The machine's memory beside the specification's state, which is kept along with it from history to history.

Trust label: TOOL. Records, descriptors and VM records are looked at as a whole, RAM in the blocks that programs are
about. What a vCPU's context holds is the engine's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from bulkhead.conformance.backends.backend import BLOCK, PAGE, Layout
from bulkhead.conformance.oracle.snapshot import WORD, unpack
from bulkhead.conformance.oracle.walk import Memory
from bulkhead.inspect.records import VM_RECORD, VM_SLOTS, Kind
from bulkhead.spec import Config, Record, State, plain
from bulkhead.spec.plain import MAPS, PlainMap
from bulkhead.spec.state import VmWord
from bulkhead.spec.words import Word

PER_BLOCK = BLOCK // WORD
# Most records are equal.
unpack_record = cache(plain.unpack)
pack_record = cache(plain.pack)
RECORDS = ("block", "frame")
"""Maps of the state whose values are records."""
Changed = dict[str, set[int]]
"""Map → keys of words."""
Touched = tuple[range | frozenset[int], bool]
"""Keys that a state changes, and whether all of them became zero."""


@dataclass(frozen=True)
class Look:
    """Raw memory of a machine at rest: arrays by the names of the specification's maps, RAM by number of a block."""

    arrays: dict[str, bytes]
    blocks: dict[int, bytes]

    @classmethod
    def take(cls, memory: Memory, blocks: Iterable[int]) -> Look:
        """Read from a machine; `blocks` by number."""
        layout, read = memory.layout, memory.physical
        arrays = {
            "block": read(layout.block_records, layout.blocks * WORD),
            "frame": read(layout.frame_records, layout.frames * WORD),
            "host_entry": read(layout.host_level2, layout.blocks * WORD),
            "dma_entry": read(layout.dma_level2, layout.blocks * WORD),
            "vm": read(layout.vm_records, VM_SLOTS * VM_RECORD.size),
        }
        return cls(arrays, {block: read(layout.ram_base + block * BLOCK, BLOCK) for block in blocks})

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
            return self.ram[key // PER_BLOCK][key % PER_BLOCK]
        return self.views[name][key]

    def words(self, name: str, keys: range) -> memoryview:
        """Words of a map; those of RAM are in one block."""
        if name == "ram":
            first = keys.start % PER_BLOCK
            return self.ram[keys.start // PER_BLOCK][first : first + len(keys)]
        return self.views[name][keys.start : keys.stop]

    def changed(self, after: Look) -> Changed:
        """Keys of words that differ, by map, where both have looked."""
        found = {name: set(_changed(data, after.arrays[name], 0)) for name, data in self.arrays.items()}
        found["ram"] = {
            key
            for block in self.blocks.keys() & after.blocks.keys()
            for key in _changed(self.blocks[block], after.blocks[block], block * PER_BLOCK)
        }
        return found


def _changed(before: bytes, after: bytes, first: int) -> Iterator[int]:
    if before == after:
        return
    for start in range(0, len(before), PAGE):
        old, new = before[start : start + PAGE], after[start : start + PAGE]
        if old != new:
            words = zip(unpack(old), unpack(new), strict=True)
            yield from (first + start // WORD + n for n, (one, other) in enumerate(words) if one != other)


class Mirror:
    """The specification's state of a machine: `state`, which `advance` replaces."""

    def __init__(self, memory: Memory, has_dma: int) -> None:
        self.memory, self.layout = memory, memory.layout
        self.look = Look.take(memory, ())
        self._touched: dict[str, list[Touched]] = {name: [] for name in MAPS}
        self._ram = plain.fresh_memory(self.layout.frames * PAGE)
        views = {name: memoryview(bytearray(data)).cast("Q") for name, data in self.look.arrays.items()}
        self.state = plain.from_grounds(
            Config(self.layout.ram_base, self.layout.frames, self.layout.cpus, has_dma),
            block=plain.Records(views["block"]),
            frame=plain.Records(views["frame"]),
            ram=plain.Words(self._ram),
            host_entry=plain.Words(views["host_entry"]),
            dma_entry=plain.Words(views["dma_entry"]),
            vm=plain.Words(views["vm"]),
        )

    def watch(self, blocks: Iterable[int]) -> None:
        """From now on `refresh` looks at the RAM of these blocks, given by physical address, and no others."""
        numbers = {(block - self.layout.ram_base) // BLOCK for block in blocks}
        kept = {number: data for number, data in self.look.blocks.items() if number in numbers}
        for number in numbers - kept.keys():
            kept[number] = self.memory.physical(self.layout.ram_base + number * BLOCK, BLOCK)
            self._ram[number * PER_BLOCK : (number + 1) * PER_BLOCK] = memoryview(kept[number]).cast("Q")
        self.look = Look(self.look.arrays, kept)

    def refresh(self) -> Changed:
        """Look again at a machine at rest; keys of the words that have changed since the last time, by map."""
        before, self.look = self.look, Look.take(self.memory, self.look.blocks)
        return before.changed(self.look)

    def differences(self, changed: Changed, path: Sequence[State]) -> Iterator[str]:
        """What memory has and the last state of `path` does not, or the other way round.

        `changed` is what changed in memory; `path`, which begins with `state`, is how the specification went on.
        """
        for name in MAPS:
            final = getattr(path[-1], name)
            touched = [*self._touched[name], *_touched_by(name, path)]
            for key in sorted(changed[name].union(*(self._suspects(name, one) for one in touched))):
                wanted, got = _as_word(final[key]), self.look.word(name, key)
                if wanted != got and not (name == "ram" and _is_context(path[-1], key)):
                    place = _name(name, key, self.layout)
                    yield f"{place} is {_show(name, got)}; specified is {_show(name, wanted)}"

    def _suspects(self, name: str, touched: Touched) -> Iterable[int]:
        """Keys that were touched, less those that became zero and are zero in memory, too."""
        keys, zeroed = touched
        if not (zeroed and isinstance(keys, range)):
            return keys
        words = self.look.words(name, keys)
        if words.tobytes().count(0) == len(keys) * WORD:
            return ()
        return [keys.start + n for n, word in enumerate(words) if word]

    def advance(self, path: Sequence[State]) -> None:
        """The specification has gone along `path`, which begins with `state`; its last state is the present one."""
        for name in MAPS:
            self._touched[name] += _touched_by(name, path)
        for state in reversed(path):
            for name in MAPS:
                getattr(state, name).merge()

    def counter_offset(self, vm: int) -> int:
        """What the system counter read when the VM in a slot was activated; 0 if there is no such slot."""
        if vm >= VM_SLOTS:
            return 0
        place = self.layout.vm_records + (vm * VmWord.COUNT + VmWord.COUNTER_OFFSET) * WORD
        return unpack(self.memory.physical(place, WORD))[0]

    def agree(self) -> None:
        """Memory has been compared with the present state, and is as specified."""
        self._touched = {name: [] for name in MAPS}


def _touched_by(name: str, path: Sequence[State]) -> Iterator[Touched]:
    """What the layers of a map change, each of them once."""
    layers: dict[int, PlainMap[Word]] = {
        id(layer): layer for layer in (getattr(state, name) for state in path)
    }
    for layer in layers.values():
        yield frozenset(layer.changed()), False
        yield from ((keys, same and _as_word(value(keys.start)) == 0) for keys, value, same in layer.spans())


def _as_word(value: Word | Record) -> int:
    return value if isinstance(value, int) else pack_record(value)


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
