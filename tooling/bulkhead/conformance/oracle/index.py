"""Who has what, kept along with the ghost: draws a frame, a block or a VM of a kind without looking at all of them.

Trust label: TOOL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from random import Random

from bulkhead.conformance.backends.backend import FRAMES_IN_BLOCK
from bulkhead.conformance.oracle.image import Image, Range
from bulkhead.spec import State
from bulkhead.spec.state import Kind, Record, Run

LATEST = 24
"""Of how many numbers, those that came last, `recent` draws, so that frames serve again and again."""


class Bag:
    """A set of numbers that one can draw from."""

    def __init__(self) -> None:
        self._items: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._items))

    def add(self, item: int) -> None:
        """Puts a number in that is not there."""
        self._places[item] = len(self._items)
        self._items.append(item)

    def remove(self, item: int) -> None:
        """Takes a number out that is there."""
        place, last = self._places.pop(item), self._items.pop()
        if last != item:
            self._items[place], self._places[last] = last, place

    def any(self, random: Random) -> int | None:
        """One of all, None if there is none."""
        return self._items[int(random.random() * len(self._items))] if self._items else None

    def recent(self, random: Random) -> int | None:
        """One of those that came last."""
        size = len(self._items)
        return self._items[size - 1 - int(random.random() * min(size, LATEST))] if size else None


class Index:
    """`frames`: class of a record (`class_of`) → frames of split blocks; `blocks`: kind → numbers of blocks."""

    def __init__(self, state: State, image: Image) -> None:
        self.frames: dict[str, Bag] = defaultdict(Bag)
        self.blocks: dict[Kind, Bag] = defaultdict(Bag)
        self._state, self._arrays = state, image.arrays
        self._class: dict[int, str] = {}
        self._kind: dict[int, Kind] = {}
        for block in range(image.layout.blocks):
            self._see_block(block)

    def update(self, changes: Iterable[Range]) -> None:
        """These words of RAM are other than before."""
        frames, blocks = self._arrays["frame"], self._arrays["block"]
        for first, count in changes:
            if 0 <= first - frames[0] < frames[1]:
                for frame in range(first - frames[0], first - frames[0] + count):
                    self._see_frame(frame)
            elif 0 <= first - blocks[0] < blocks[1]:
                self._see_block(first - blocks[0])

    def _see_block(self, block: int) -> None:
        kind, old = Kind(self._state.block[block].kind), self._kind.get(block)  # type: ignore[arg-type]  # a plain state
        if kind != old:
            if old is not None:
                self.blocks[old].remove(block)
            self._kind[block] = kind
            self.blocks[kind].add(block)
            if kind == Kind.SPLIT:
                for frame in range(block * FRAMES_IN_BLOCK, (block + 1) * FRAMES_IN_BLOCK):
                    self._see_frame(frame)

    def _see_frame(self, frame: int) -> None:
        name, old = class_of(self._state.frame[frame]), self._class.get(frame)
        if name != old:
            if old is not None:
                self.frames[old].remove(frame)
            self._class[frame] = name
            self.frames[name].add(frame)


_PAGES = ("private page", "offered page", "accepted page")
_VCPUS = {Run.OFF: "vcpu off", Run.RUNNABLE: "vcpu"}


def class_of(record: Record) -> str:
    """What a frame of a split block is, as far as calls care."""
    match record.kind:
        case Kind.HOST:
            return "host"
        case Kind.VM_PAGE:
            return _PAGES[record.shared]  # type: ignore[index]  # a plain state
        case Kind.VM_TABLE:
            return f"table {record.level}"
        case Kind.VCPU:
            return _VCPUS.get(record.parent, "loaded vcpu")  # type: ignore[call-overload,no-any-return]
        case Kind.HOST_TABLE:
            return "host table"
    return "engine"
