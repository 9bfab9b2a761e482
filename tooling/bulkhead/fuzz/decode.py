"""Bytes to steps: which call comes, and with what of the things that there are. Trust label: TOOL.

Each choice takes one byte, so that a changed byte is another choice: the step, then each argument. An argument's byte
names one of the things in the specified state that fit its name, or an odd number, or says that the next eight bytes
are the value itself. Where the bytes end, the sequence ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.inspect.records import Kind
from bulkhead.spec import ARGUMENTS, CALLS
from bulkhead.spec.state import VmState, VmWord

MASK = (1 << 64) - 1
RAM = 0x4000_0000
SLOTS = (0, 1, 2, 63)
"""VM slots in use; few, so that steps meet."""
RANGES = (
    (RAM, 16 << 20, 0, 0, 0, 0, 0, 0),
    (0, PAGE, RAM, 4 << 20, (1 << 39) - BLOCK, BLOCK, 0, 0),
    (0, 1 << 39, 0, 0, 0, 0, 0, 0),
    (RAM, PAGE, RAM + PAGE, PAGE, RAM + (1 << 30), PAGE, (1 << 39) - PAGE, PAGE),
    (RAM, PAGE, RAM, PAGE, 0, 0, 0, 0),
    ((1 << 39) - PAGE, 2 * PAGE, 0, 0, 0, 0, 0, 0),
)
"""RAM ranges for vm_create, base and size in turn; the last two are wrong."""
PLACES = (RAM, RAM, RAM, RAM + BLOCK, RAM + 2 * BLOCK, RAM + (1 << 30), 0, (1 << 39) - BLOCK)
"""Where level 3 tables begin."""
ODD = (
    0, 1, 2, 3, 7, 8, 63, 64, PAGE - 1, PAGE, PAGE + 8, BLOCK, 1 << 38, 1 << 39, 1 << 48, 1 << 63, MASK, MASK & -PAGE,
)  # fmt: skip
OF_VMS = ("share", "unshare", "relinquish")
OPERATIONS = (
    *CALLS, "map", "map", "reclaim", "reclaim", "table_donate", "table_donate", "vcpu_create",
    *OF_VMS, *OF_VMS, "first_touch", "vcpu_run", "vcpu_run", "vcpu_put",
)  # fmt: skip
"""What the first byte of a step chooses from."""
FREE = 12
"""Host frames that are offered; few, so that they serve again."""
TAKES_BACK = ("reclaim", "table_reclaim", "vcpu_set_entry", "vcpu_run")
"""Calls whose frames are not the host's."""
_OTHER, _ODD, _RAW = 0xB0, 0xD0, 0xF8
"""From these bytes on a frame is one that seldom fits, an argument is an odd number, or eight bytes."""


class Ended(Exception):
    """There are no bytes left."""


@dataclass(frozen=True)
class Step:
    """A step of a machine: a call of the host on a CPU, one of a VM, or `first_touch` of a block."""

    name: str
    cpu: int
    arguments: dict[str, int]


class Decoder:
    """Takes steps from `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def byte(self) -> int:
        """The next byte. Raises Ended."""
        try:
            return next(self._data)
        except StopIteration:
            raise Ended from None

    def step(self, ghost: Ghost) -> Step | None:
        """The next step for a machine in the state of `ghost`; None where the bytes have ended."""
        try:
            return self._step(ghost)
        except Ended:
            return None

    def _step(self, ghost: Ghost) -> Step:
        choice = self.byte()
        name, cpu = OPERATIONS[choice % len(OPERATIONS)], choice // len(OPERATIONS) & 1
        things = Things.of(ghost)
        if name in OF_VMS:
            callers = [vm for vm in SLOTS if _can_call(ghost, vm)]
            if not callers:
                return Step("vcpu_put", cpu, {})
            vm = callers[self.byte() % len(callers)]
            return Step(
                name, cpu, {"vm": vm, "ipa": self._place(things), "x2": self._rarely(), "x3": self._rarely()}
            )
        if name == "first_touch":
            return Step(name, cpu, {"block": self._of(things.blocks)})
        if name in ("vcpu_run", "vcpu_put"):
            return Step(name, cpu, {"vcpu": self._frame(name, things)} if name == "vcpu_run" else {})
        return Step(name, cpu, self._arguments(name, things))

    def _arguments(self, name: str, things: Things) -> dict[str, int]:
        names = ARGUMENTS[name]
        drawn = {one: self._argument(name, one, things) for one in names if not one.startswith("ram")}
        if name == "vm_create":
            ranges = RANGES[self.byte() % len(RANGES)]
            drawn |= zip((one for one in names if one.startswith("ram")), ranges, strict=True)
        return {one: drawn[one] for one in names}

    def _argument(self, step: str, name: str, things: Things) -> int:
        match name:
            case "vm":
                return self._of(SLOTS)
            case "ipa":
                return self._place(things)
            case "block":
                return self._of(things.blocks)
            case "level":
                return self._of((2, 3))
            case "mode" | "flags":
                return self._of((0, 1) if name == "mode" else (0,))
            case "index" | "vcpus":
                return self._of((0, 1, 2, 7) if name == "index" else (1, 2, 8))
            case "entry":
                return self._of((RAM, RAM + 4))
            case "context":
                return self.byte()
        return self._frame(step, things)

    def _frame(self, step: str, things: Things) -> int:
        likely, other = (things.given, things.free) if step in TAKES_BACK else (things.free, things.given)
        choice = self.byte()
        if choice < _ODD:
            fitting = likely if choice < _OTHER else other
            return fitting[choice % len(fitting)] if fitting else ODD[choice % len(ODD)]
        return self._odd(choice)

    def _of(self, things: Sequence[int]) -> int:
        """One of these, an odd number, or eight bytes."""
        choice = self.byte()
        return self._odd(choice) if choice >= _ODD else things[choice % len(things)]

    def _odd(self, choice: int) -> int:
        """An odd number, or eight bytes."""
        return sum(self.byte() << 8 * n for n in range(8)) if choice >= _RAW else ODD[choice % len(ODD)]

    def _place(self, things: Things) -> int:
        """A page of a VM: table and page by the bits of one byte."""
        choice = self.byte()
        if choice >= _ODD:
            return self._odd(choice)
        return PLACES[choice >> 3 & 7] + PAGE * (choice & 7)

    def _rarely(self) -> int:
        """Mostly zero."""
        choice = self.byte()
        return 0 if choice < _ODD else choice


@dataclass(frozen=True)
class Things:
    """What there is, by physical address: blocks, a few frames of the host, and all that others have."""

    blocks: Sequence[int]
    free: Sequence[int]
    given: Sequence[int]

    @classmethod
    def of(cls, ghost: Ghost) -> Things:
        """Of the specified state."""
        base, (first, _) = ghost.machine.layout.ram_base, ghost.image.arrays["frame"]
        free: list[int] = []
        given: list[int] = []
        for block in ghost.image.blocks(Kind.SPLIT):
            for number in range(block << 9, (block + 1) << 9):
                kind = ghost.image.words[first + number] & 15
                if kind != Kind.HOST:
                    given.append(base + number * PAGE)
                elif len(free) < FREE:
                    free.append(base + number * PAGE)
        return cls([base + block * BLOCK for block in range(ghost.machine.layout.blocks)], free, given)


def _can_call(ghost: Ghost, vm: int) -> bool:
    words, first = ghost.image.words, ghost.image.arrays["vm"][0] + vm * VmWord.COUNT
    return words[first] == VmState.ACTIVE and words[first + VmWord.VCPU] != 0
