"""States of plain integers, for the oracle.

A map is a layer of changes on what lies below: another layer, or the ground, which knows all keys. A step of the
specification changes a fresh layer only, so it costs what it changes, however large the machine is; afterwards
the layer is merged into what it lies on (`commit`), or dropped.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Generic, NamedTuple, Protocol, TypeVar

from . import stage2
from .state import RECORD_FIELDS, Config, Kind, Map, Record, State
from .transaction import Outcome
from .words import Truth, Word

Value = TypeVar("Value")
MAPS = ("block", "frame", "ram", "host_entry", "dma_entry", "vm")
"""The maps of a state that are about words of RAM."""


class Span(NamedTuple, Generic[Value]):
    """A range of keys that got values by a function of the key; `same` says that it is constant."""

    keys: range
    value: Callable[[int], Value]
    same: bool


class Ground(Protocol[Value]):
    """What layers lie on: a total function of keys that can be changed."""

    def read(self, key: Word, /) -> Value:
        """The value of a key. TypeError for a solver term."""
        ...

    def cover(self, span: Span[Value], /) -> None:
        """A range of keys changes."""
        ...

    def put(self, values: Mapping[int, Value], /) -> None:
        """Single keys change."""
        ...

    def words(self, first: int, count: int, /) -> Sequence[Value]:
        """The values of consecutive keys."""
        ...


class Sparse(Generic[Value]):
    """Ground of a dictionary whose missing keys come from a function."""

    def __init__(self, known: Mapping[int, Value], missing: Callable[[int], Value]) -> None:
        self._known, self._missing = dict(known), missing

    def read(self, key: Word) -> Value:
        """See Ground."""
        number = _number(key)
        return self._known[number] if number in self._known else self._missing(number)

    def cover(self, span: Span[Value]) -> None:
        """See Ground."""
        self._known.update((key, span.value(key)) for key in span.keys)

    def put(self, values: Mapping[int, Value]) -> None:
        """See Ground."""
        self._known.update(values)

    def words(self, first: int, count: int) -> Sequence[Value]:
        """See Ground."""
        return [self.read(key) for key in range(first, first + count)]


class Words:
    """Ground of memory: 64-bit words in the order of this machine, which is little-endian; zero beyond its end."""

    def __init__(self, view: memoryview) -> None:
        """`view` has the format "Q", so that a word is an item."""
        self.view = view

    def read(self, key: Word) -> Word:
        """See Ground."""
        number = _number(key)
        word: int = self.view[number] if number < len(self.view) else 0
        return word

    def cover(self, span: Span[Word]) -> None:
        """See Ground."""
        keys = span.keys
        if span.same:
            values = array("Q", [_number(span.value(keys.start))]) * len(keys)
        else:
            values = array("Q", (_number(span.value(key)) for key in keys))
        self.view[keys.start : keys.stop] = values

    def put(self, values: Mapping[int, Word]) -> None:
        """See Ground."""
        for key, value in values.items():
            self.view[key] = _number(value)

    def words(self, first: int, count: int) -> Sequence[int]:
        """See Ground."""
        return self.view[first : first + count]


class Records:
    """Ground of ownership records that lie in memory, one word each."""

    def __init__(self, view: memoryview) -> None:
        """As for `Words`."""
        self._words = Words(view)

    def read(self, key: Word) -> Record:
        """See Ground. ValueError if the word is no record."""
        return _unpacked(_number(self._words.read(key)))

    def cover(self, span: Span[Record]) -> None:
        """See Ground."""
        self._words.cover(Span(span.keys, lambda key: _packed(span.value(key)), span.same))

    def put(self, values: Mapping[int, Record]) -> None:
        """See Ground."""
        self._words.put({key: _packed(record) for key, record in values.items()})

    def words(self, first: int, count: int) -> Sequence[Record]:
        """See Ground."""
        return [_unpacked(word) for word in self._words.words(first, count)]


def fresh_memory(size: int) -> memoryview:
    """`size` bytes of zeros as 64-bit words, which take room when they are first touched only."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)).cast("Q")


class PlainMap(Generic[Value]):
    """A layer: the keys changed here, and the ground for all others. A map that has been copied stands still."""

    __slots__ = ("_changed", "_ground", "_read", "_spans")

    def __init__(self, ground: Ground[Value]) -> None:
        self._ground = ground
        self._read = ground.read
        self._changed: dict[int, Value] = {}
        self._spans: list[Span[Value]] = []

    def __getitem__(self, key: Word) -> Value:
        if self._changed and key in self._changed:
            return self._changed[_number(key)]
        if self._spans:
            for span in reversed(self._spans):
                if key in span.keys:
                    return span.value(_number(key))
        return self._read(key)

    read = __getitem__

    def set(self, key: Word, value: Value, when: Truth) -> None:
        if when is True:
            self._changed[_number(key)] = value

    def fill(self, first: Word, count: int, value: Callable[[Word], Value], when: Truth) -> None:
        if when is True:
            start = _number(first)
            self.cover(Span(range(start, start + count), lambda key: value(key - start), same=False))

    def fill_same(self, first: Word, count: int, value: Value, when: Truth) -> None:
        if when is True:
            start = _number(first)
            self.cover(Span(range(start, start + count), lambda _: value, same=True))

    def cover(self, span: Span[Value]) -> None:
        """A range of keys changes; what was changed there before counts no more."""
        for key in [key for key in self._changed if key in span.keys]:
            del self._changed[key]
        self._spans.append(span)

    def put(self, values: Mapping[int, Value]) -> None:
        """Single keys change."""
        self._changed.update(values)

    def copy(self) -> PlainMap[Value]:
        """A fresh layer on this one, or, if nothing has changed here, beside it."""
        return PlainMap(self if self._changed or self._spans else self._ground)

    def merge(self) -> None:
        """The changes go into the ground; this layer is empty then."""
        for span in self._spans:
            self._ground.cover(span)
        if self._changed:
            self._ground.put(self._changed)
        self._changed, self._spans = {}, []

    def changed(self) -> Mapping[int, Value]:
        """The single keys that this layer changes, with their values."""
        return self._changed

    def spans(self) -> list[Span[Value]]:
        """The ranges that this layer changes, the oldest first; `changed` is newer than all of them."""
        return self._spans

    def words(self, first: int, count: int) -> Sequence[Value]:
        """The values of consecutive keys."""
        keys = range(first, first + count)
        if not self._spans and not any(key in keys for key in self._changed):
            return self._ground.words(first, count)
        return [self[key] for key in keys]


def commit(outcome: Outcome) -> State:
    """The state behind a step. It replaces the one before, which is lost."""
    if outcome.success is True:
        for name in (*MAPS, "cpu"):
            getattr(outcome.committed, name).merge()
    return outcome.before


def _number(key: Word) -> int:
    if not isinstance(key, int):
        raise TypeError("a solver term in a state of plain integers")
    return key


def sha256(words: tuple[Word, ...], frame: Word | None, ram: Map[Word]) -> tuple[int, int, int, int]:
    """FIPS 180-4 SHA-256 of little-endian words and, if given, a frame's 4096 bytes."""
    content = (*words, *_frame(ram, frame)) if frame is not None else words
    digest = hashlib.sha256(struct.pack(f"<{len(content)}Q", *content)).digest()
    first, second, third, fourth = struct.unpack("<4Q", digest)
    return first, second, third, fourth


def no_valid_entry(ram: Map[Word], table: Word) -> bool:
    """Bit 0 of all 512 words of the frame is zero (DDI 0487 section D8.3)."""
    return reduce(or_, _frame(ram, table)) & 1 == 0


def _frame(ram: Map[Word], frame: Word) -> Sequence[int]:
    """The words of a frame."""
    if not isinstance(ram, PlainMap):
        raise TypeError("memory of solver terms in a state of plain integers")
    words: Sequence[int] = ram.words(_number(stage2.word(frame, 0)), stage2.TABLE_ENTRIES)
    return words


def pack(record: Record) -> int:
    """The word of a record."""
    return sum(_number(value) << RECORD_FIELDS[name][0] for name, value in record._asdict().items())


def unpack(word: int) -> Record:
    """The record of a word; ValueError if a reserved bit is set."""
    fields = {name: word >> low & ((1 << width) - 1) for name, (low, width) in RECORD_FIELDS.items()}
    record = Record(**fields)
    if pack(record) != word:
        raise ValueError(f"record {word:#018x} has reserved bits set")
    return record


# Most records are equal.
_packed = lru_cache(1 << 16)(pack)
_unpacked = lru_cache(1 << 16)(unpack)


def from_grounds(
    config: Config,
    *,
    block: Ground[Record],
    frame: Ground[Record],
    ram: Ground[Word],
    host_entry: Ground[Word],
    dma_entry: Ground[Word],
    vm: Ground[Word],
) -> State:
    """The state that lies on these."""
    return State(
        config,
        block=PlainMap(block),
        frame=PlainMap(frame),
        ram=PlainMap(ram),
        host_entry=PlainMap(host_entry),
        dma_entry=PlainMap(dma_entry),
        vm=PlainMap(vm),
        digest=sha256,
        emptiness=no_valid_entry,
        cpu=PlainMap(Sparse[Word]({}, lambda _: 0)),
    )


def from_words(
    config: Config,
    blocks: Mapping[int, int],
    frames: Mapping[int, int],
    host_entries: Mapping[int, int],
    dma_entries: Mapping[int, int],
    vms: Mapping[int, int],
    ram: Mapping[int, int] | None = None,
) -> State:
    """The state of which this is known, all else being zero: block and frame records as words, level 2 entries of the
    host and of its devices, words of the VM records (64 * slot + word) and of RAM.
    """
    memory = Words(fresh_memory(_number(config.frames) << stage2.FRAME_SHIFT))
    memory.put(ram or {})
    return from_grounds(
        config,
        block=Sparse({block: unpack(word) for block, word in blocks.items()}, lambda _: Record(Kind.ENGINE)),
        frame=Sparse({frame: unpack(word) for frame, word in frames.items()}, lambda _: Record(Kind.ENGINE)),
        ram=memory,
        host_entry=Sparse[Word](host_entries, lambda _: 0),
        dma_entry=Sparse[Word](dma_entries, lambda _: 0),
        vm=Sparse[Word](vms, lambda _: 0),
    )
