"""Walking VMSAv8-64 translation tables in a RAM snapshot (4 KiB granule).

Trust label: TOOL. Source: Arm ARM DDI 0487 D8.2 (walk), D8.3 (descriptor formats). The walkers know the
architecture only, so that what they say is the hardware's view and not the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bulkhead.inspect.ram import PAGE

ADDRESS = 0x0000_FFFF_FFFF_F000  # output address field, 48 bits
VALID = 1
TABLE = 2  # with VALID: a table at levels 0 to 2, a page at level 3

Words = Callable[[int], memoryview]


def span(level: int) -> int:
    """Bytes that one entry of a table of `level` covers."""
    return PAGE << 9 * (3 - level)


@dataclass(frozen=True)
class Mapping:
    """A leaf: `size` bytes at input `address` go to `output`; `attributes` is the rest of the descriptor."""

    address: int
    output: int
    size: int
    level: int
    attributes: int


class MalformedTable(ValueError):
    """A table that the architecture calls reserved or that lies outside RAM."""


def leaves(words: Words, root: int, level: int, address: int = 0, entries: int = 512) -> Iterator[Mapping]:
    """All leaves below the table at `root`, by ascending input address; `words` reads a page of RAM."""
    for index, descriptor in enumerate(words(root)[:entries]):
        here = address + index * span(level)
        if not descriptor & VALID:
            continue
        if level < 3 and descriptor & TABLE:
            yield from leaves(words, descriptor & ADDRESS, level + 1, here)
        elif level == 0 or (level == 3 and not descriptor & TABLE):
            raise MalformedTable(f"descriptor {descriptor:#x} at level {level} for {here:#x}")
        else:
            yield _leaf(here, descriptor, level)


def flat_leaves(entries: Iterable[int], base: int) -> Iterator[Mapping]:
    """All leaves of an array of level 2 entries, which map from input address `base` on, that names no tables."""
    for index, descriptor in enumerate(entries):
        here = base + index * span(2)
        if descriptor & VALID and descriptor & TABLE:
            raise MalformedTable(f"table descriptor {descriptor:#x} for {here:#x}, where blocks belong")
        if descriptor & VALID:
            yield _leaf(here, descriptor, 2)


def _leaf(address: int, descriptor: int, level: int) -> Mapping:
    output = descriptor & ADDRESS & -span(level)
    return Mapping(address, output, span(level), level, descriptor & ~ADDRESS)


def translate(words: Words, root: int, level: int, address: int) -> int | None:
    """Output address of `address` through the tables at `root` of start `level`; None if not mapped."""
    table = root
    while True:
        index = address // span(level) % 512
        descriptor = words(table)[index]
        if not descriptor & VALID:
            return None
        if level == 3 or not descriptor & TABLE:
            return _leaf(address, descriptor, level).output + address % span(level)
        table, level = descriptor & ADDRESS, level + 1


def tables(words: Words, root: int, level: int) -> Iterator[tuple[int, int]]:
    """Every table page below and including `root`, as (physical address, level)."""
    yield root, level
    if level == 3:
        return
    for descriptor in words(root):
        if descriptor & VALID and descriptor & TABLE:
            yield from tables(words, descriptor & ADDRESS, level + 1)


class Reach:
    """The set of physical addresses that some tables give access to."""

    def __init__(self, mappings: Iterator[Mapping]) -> None:
        self.ranges = sorted((one.output, one.output + one.size) for one in mappings)

    def __contains__(self, address: int) -> bool:
        return any(start <= address < end for start, end in self.ranges)

    @property
    def total(self) -> int:
        """Bytes mapped (an address mapped twice counts twice)."""
        return sum(end - start for start, end in self.ranges)
