"""Counts of lines and branches per source file, from what llvm-cov exports. Trust label: TOOL.

Code that is generic is instantiated several times; a line or branch counts once, and is covered if any instance is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Span = tuple[int, int, int, int]
"""Line and column of the first and behind the last character, from 1."""


@dataclass(frozen=True)
class FileCounts:
    """How often each line was executed, and each condition was true and false."""

    lines: Mapping[int, int]
    branches: Mapping[Span, tuple[int, int]]

    def missing_lines(self) -> list[int]:
        """Lines that were never executed."""
        return sorted(line for line, count in self.lines.items() if not count)

    def missing_branches(self) -> Iterator[tuple[Span, str]]:
        """Conditions that were never "true", or never "false"."""
        for span, (taken, passed) in sorted(self.branches.items()):
            if not taken:
                yield span, "true"
            if not passed:
                yield span, "false"


def parse(lcov: str, document: str, below: Path) -> dict[str, FileCounts]:
    """Both exports of llvm-cov (`lcov`, and `text`, which is JSON): counts of the files below a directory.

    Line counts come from the first, conditions from the second: each has only one of them without ambiguity.
    """
    lines = _lines(lcov)
    branches = {entry["filename"]: _branches(entry["branches"]) for entry in json.loads(document)["data"][0]["files"]}
    return {
        str(Path(name).relative_to(below)): FileCounts(counts, branches.get(name, {}))
        for name, counts in sorted(lines.items())
        if Path(name).is_relative_to(below)
    }


def _lines(lcov: str) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = defaultdict(dict)
    name = ""
    for record in lcov.splitlines():
        kind, _, rest = record.partition(":")
        if kind == "SF":
            name = rest
        elif kind == "DA":
            line, count = (int(number) for number in rest.split(",")[:2])
            found[name][line] = max(count, found[name].get(line, 0))
    return found


def _branches(entries: list[list[Any]]) -> dict[Span, tuple[int, int]]:
    found: dict[Span, tuple[int, int]] = {}
    for first, column, last, end, taken, passed, *_ in entries:
        span = (first, column, last, end)
        before = found.get(span, (0, 0))
        found[span] = (before[0] + taken, before[1] + passed)
    return found
