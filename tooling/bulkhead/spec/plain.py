"""States of plain integers, for the oracle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from .state import RECORD_FIELDS, Config, Kind, Map, Record, State
from .words import Truth, Word

Value = TypeVar("Value")


class PlainMap(Generic[Value]):
    """A dictionary whose missing keys come from a function. Long ranges of one value are kept as ranges."""

    def __init__(
        self,
        known: Mapping[int, Value],
        missing: Callable[[int], Value],
        ranges: tuple[tuple[range, Value], ...] = (),
    ) -> None:
        self._known = dict(known)
        self._missing = missing
        self._ranges = ranges

    def __getitem__(self, key: Word) -> Value:
        number = _number(key)
        if number in self._known:
            return self._known[number]
        for keys, value in reversed(self._ranges):
            if number in keys:
                return value
        return self._missing(number)

    def set(self, key: Word, value: Value, when: Truth) -> None:
        if when is True:
            self._known[_number(key)] = value

    def fill(self, first: Word, count: int, value: Callable[[Word], Value], when: Truth) -> None:
        if when is True:
            start = _number(first)
            self._known.update((start + offset, value(offset)) for offset in range(count))

    def fill_same(self, first: Word, count: int, value: Value, when: Truth) -> None:
        if when is True:
            start = _number(first)
            keys = range(start, start + count)
            self._known = {key: old for key, old in self._known.items() if key not in keys}
            self._ranges += ((keys, value),)

    def copy(self) -> PlainMap[Value]:
        return PlainMap(self._known, self._missing, self._ranges)

    def changed(self) -> Mapping[int, Value]:
        """The single keys that were given or changed, with their values."""
        return self._known

    def ranges(self) -> tuple[tuple[range, Value], ...]:
        """The ranges of keys that got one value."""
        return self._ranges


def _number(key: Word) -> int:
    if not isinstance(key, int):
        raise TypeError("a solver term in a state of plain integers")
    return key


def sha256(words: tuple[Word, ...], frame: Word | None, ram: Map[Word]) -> tuple[int, int, int, int]:
    """FIPS 180-4 SHA-256 of little-endian words and, if given, a frame's 4096 bytes."""
    content = [_number(word) for word in words]
    if frame is not None:
        content += [_number(ram[_number(frame) << 9 | position]) for position in range(512)]
    digest = hashlib.sha256(b"".join(word.to_bytes(8, "little") for word in content)).digest()
    first, second, third, fourth = (
        int.from_bytes(digest[start : start + 8], "little") for start in range(0, 32, 8)
    )
    return first, second, third, fourth


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


def from_words(
    config: Config,
    blocks: Mapping[int, int],
    frames: Mapping[int, int],
    host_entries: Mapping[int, int],
    dma_entries: Mapping[int, int],
    vms: Mapping[int, int],
    ram: Callable[[int], int] = lambda _word: 0,
) -> State:
    """The state that memory holds: block and frame records as words, level 2 entries of the host and of its devices,
    words of the VM records (64 * slot + word) and a reader of RAM by word index.
    """
    return State(
        config,
        PlainMap({block: unpack(word) for block, word in blocks.items()}, lambda _: Record(Kind.ENGINE)),
        PlainMap({frame: unpack(word) for frame, word in frames.items()}, lambda _: Record(Kind.ENGINE)),
        PlainMap[Word]({}, ram),
        PlainMap[Word](host_entries, lambda _: 0),
        PlainMap[Word](dma_entries, lambda _: 0),
        PlainMap[Word](vms, lambda _: 0),
        sha256,
    )
