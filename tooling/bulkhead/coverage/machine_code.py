"""What was executed of the shipped machine code, counted by source lines and conditional branches. Trust label: TOOL.

A line is covered if any instruction that belongs to it was executed. A conditional branch of the machine code has two
outcomes and belongs to the innermost line of the engine's own. Copies of one branch, which the compiler makes when it
unrolls or inlines, count once: they come from the same place of the source and ask the same. Outcomes, and lines, that
lead to nothing but a panic are what the compiler made of a check (overflow, bounds, `expect`): they are no branches of
the source, and are counted apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bulkhead.trace import code
from bulkhead.trace.probe import Probe
from bulkhead.trace.sources import ENGINE, Place, Sources

capstone: Any = importlib.import_module("capstone")  # no type information
PANICS = ("core::panicking::", "core::slice::index::", "core::option::", "core::result::unwrap_failed",
          "core::str::slice_error", "core::cell::panic", "bulkhead::panic::")  # fmt: skip
"""Beginnings of the names of functions that do not return."""


@dataclass(frozen=True, order=True)
class Gap:
    """A line that was not executed or, with `outcome`, a branch at `address` that never had it."""

    place: Place
    text: str
    outcome: str = ""
    address: int = 0

    def __str__(self) -> str:
        if self.outcome:
            return f"{self.place}: the branch at {self.address:#x} is never {self.outcome}: `{self.text}`"
        return f"{self.place}: not executed: `{self.text}`"


@dataclass
class FileCounts:
    """Of one source file."""

    lines: int = 0
    covered: int = 0
    branches: int = 0
    covered_branches: int = 0
    checks: int = 0
    """Lines and outcomes that only lead to a panic and did not happen."""
    gaps: list[Gap] = field(default_factory=list)


class Counter:
    """Turns what a probe has seen into counts."""

    def __init__(self, sources: Sources, probe: Probe) -> None:
        self._sources, self._probe = sources, probe
        self._words = probe.words
        self._texts: dict[str, list[str]] = {}
        names = [sources.function(probe.base + 4 * number) for number in range(len(self._words))]
        ends = [
            name.startswith(PANICS) and (number == 0 or names[number - 1] != name)
            for number, name in enumerate(names)
        ]
        self._doomed = code.doomed(self._words, ends)
        self._places = [self._own_places(number) for number in range(len(self._words))]

    def count(self) -> dict[str, FileCounts]:
        """File (below `engine/`) → its counts."""
        found: dict[str, FileCounts] = {}
        self._taken, self._passed = self._probe.taken(), self._probe.passed()
        self._count_lines(found)
        self._count_branches(found)
        for one in found.values():
            one.gaps.sort()
        return dict(sorted(found.items()))

    def _own_places(self, number: int) -> list[Place]:
        address = self._probe.base + 4 * number
        if not self._sources.is_code(address) or self._words[number] in (0, code.NOP):
            return []
        return [place for place in self._sources.places(address) if place.line]

    def _count_lines(self, found: dict[str, FileCounts]) -> None:
        executed = self._probe.executed()
        seen: dict[Place, list[int]] = {}
        for number, places in enumerate(self._places):
            for place in places:
                seen.setdefault(place, []).append(number)
        for place, numbers in seen.items():
            file = found.setdefault(place.file, FileCounts())
            covered = any(executed[number] for number in numbers)
            if not covered and all(self._doomed[number] for number in numbers):
                file.checks += 1
                continue
            file.lines += 1
            file.covered += covered
            if not covered:
                file.gaps.append(Gap(place, self._text(place, numbers[0])))

    def _count_branches(self, found: dict[str, FileCounts]) -> None:
        for copies in self._branches().values():
            number = copies[0][0]
            place = self._places[number][0]
            file = found.setdefault(place.file, FileCounts())
            for yes in (True, False):
                covered, fatal = self._outcome(copies, yes)
                if fatal and not covered:
                    file.checks += 1
                    continue
                file.branches += 1
                file.covered_branches += covered
                if not covered:
                    outcome = "taken" if copies[0][1] == yes else "not taken"
                    file.gaps.append(
                        Gap(place, self._text(place, number), outcome, self._probe.base + 4 * number)
                    )

    def _branches(self) -> dict[tuple[object, ...], list[tuple[int, bool]]]:
        """Branches by what makes them copies of one: instruction, and whether it is taken if the answer is yes."""
        found: dict[tuple[object, ...], list[tuple[int, bool]]] = {}
        for number, places in enumerate(self._places):
            if places and code.is_conditional(self._words[number]):
                asked, straight = code.condition(self._words, number)
                origin = self._sources.origin(self._probe.base + 4 * number)
                key = (places[0], asked, origin) if places[0].instruction < 0 else (number,)
                found.setdefault(key, []).append((number, straight))
        return found

    def _outcome(self, copies: list[tuple[int, bool]], yes: bool) -> tuple[bool, bool]:
        """Whether any copy had this outcome, and whether it leads all of them to a panic."""
        covered, fatal = False, True
        for number, straight in copies:
            seen = self._taken if straight == yes else self._passed
            goes = code.target(self._words[number], number) if straight == yes else number + 1
            covered = covered or bool(seen[number])
            fatal = fatal and goes is not None and self._doomed[goes]
        return covered, fatal

    def _text(self, place: Place, number: int) -> str:
        """The source line; in assembly the instruction."""
        if place.instruction >= 0:
            return f"{self._sources.function(self._probe.base + 4 * number)}: {self._disassembled(number)}"
        if place.file not in self._texts:
            self._texts[place.file] = (ENGINE / place.file).read_text().splitlines()
        return self._texts[place.file][place.line - 1].strip()

    def _disassembled(self, number: int) -> str:
        decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        for one in decoder.disasm(self._words[number].to_bytes(4, "little"), self._probe.base + 4 * number):
            return f"{one.mnemonic} {one.op_str}".strip()
        return f".inst {self._words[number]:#010x}"


def total(counts: Iterable[FileCounts]) -> FileCounts:
    """The sum."""
    result = FileCounts()
    for one in counts:
        result.lines += one.lines
        result.covered += one.covered
        result.branches += one.branches
        result.covered_branches += one.covered_branches
        result.checks += one.checks
        result.gaps += one.gaps
    return result


def of_crate(counts: dict[str, FileCounts], crate: str) -> Iterator[FileCounts]:
    """Those of the files of one crate."""
    return (one for file, one in counts.items() if file.startswith(f"{crate}/"))
