"""What a machine lets others see of a step besides its answer: which words it wrote, its events, raw RAM.

Trust label: TOOL. This is all that the ghost needs to know about a backend. A new one needs a `Watch` of its own only
if it can say which words were written, or what happened in which order; `RawWatch` does for any with raw memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.host import Event, HostBackend
from bulkhead.conformance.oracle.image import Range
from bulkhead.conformance.oracle.snapshot import WORD
from bulkhead.conformance.testing.machine import Machine


class Watch(Protocol):
    """One machine."""

    host_runs: bool
    """Whether a host program runs on it, which writes to its own memory as it likes."""

    def begin(self) -> None:
        """A step comes: what was before does not count."""
        ...

    def written(self) -> Iterable[Range]:
        """Words that the engine may have written since: all of them where that is known, else a few to look at."""
        ...

    def events(self) -> list[Event] | None:
        """The effects since, in order; None if nobody can tell. May be asked once."""
        ...

    def read(self, first: int, count: int) -> bytes:
        """Raw words of RAM."""
        ...

    def equals(self, first: int, expected: memoryview) -> bool:
        """Whether RAM holds these bytes from word `first` on."""
        ...


class HostWatch:
    """The fake machine notes every word that the engine writes."""

    host_runs = False

    def __init__(self, backend: HostBackend) -> None:
        self._backend = backend

    def begin(self) -> None:
        """See Watch."""
        self._backend.forget_effects()

    def written(self) -> Iterable[Range]:
        """See Watch."""
        return self._backend.written()

    def events(self) -> list[Event] | None:
        """See Watch."""
        return self._backend.events()

    def read(self, first: int, count: int) -> bytes:
        """See Watch."""
        return bytes(self._backend.raw(first * WORD, count * WORD))

    def equals(self, first: int, expected: memoryview) -> bool:
        """See Watch."""
        return bool(self._backend.raw(first * WORD, len(expected)) == expected)


class RawWatch:
    """A machine whose RAM can be read. Nobody says what was written: besides the words that the specification
    changes, some pages are looked at after each step, others after the next.
    """

    host_runs = True
    PAGES = 4
    """Pages looked at after each step."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._next = 0

    def begin(self) -> None:
        """See Watch."""

    def written(self) -> Iterable[Range]:
        """See Watch: pages of the arrays of block, frame and VM records and of the level 2 entries, in turn."""
        layout = self._machine.layout
        arrays = (
            (layout.block_records, layout.blocks * WORD),
            (layout.host_level2, layout.blocks * WORD),
            (layout.dma_level2, layout.blocks * WORD),
            (layout.vm_records, 64 * 64 * WORD),
        )
        pages = [
            (address + start, min(PAGE, size - start))
            for address, size in arrays
            for start in range(0, size, PAGE)
        ]
        for _ in range(min(self.PAGES, len(pages))):
            address, size = pages[self._next % len(pages)]
            self._next += 1
            yield (address - layout.ram_base) // WORD, size // WORD

    def events(self) -> list[Event] | None:
        """See Watch."""
        return None

    def read(self, first: int, count: int) -> bytes:
        """See Watch."""
        return self._machine.physical(self._machine.layout.ram_base + first * WORD, count * WORD)

    def equals(self, first: int, expected: memoryview) -> bool:
        """See Watch."""
        return self.read(first, len(expected) // WORD) == bytes(expected)


def watch(machine: Machine) -> Watch:
    """The one that suits the machine's backend. NeedsRawMemory, at the first step, if that has no raw memory."""
    if isinstance(machine.backend, HostBackend):
        return HostWatch(machine.backend)
    return RawWatch(machine)
