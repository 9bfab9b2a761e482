"""The report as one HTML page without anything from elsewhere. Trust label: TOOL."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from bulkhead import abi
from bulkhead.provision.paths import REPOSITORY
from bulkhead.report import pair_map
from bulkhead.report.failures import failures
from bulkhead.report.judge import Verdict, is_readable
from bulkhead.report.overview import Line, newest
from bulkhead.report.pairs import Row, matrix, specified
from bulkhead.report.results import Result

ORDER = "host qemu metal"
"""Of backends; others come last."""
SLOWEST = 25
"""Tests whose durations are shown."""


@dataclass(frozen=True)
class Gap:
    """A line that was not executed, or not in every direction, and why."""

    number: int
    source: str
    why: str


@dataclass(frozen=True)
class Step:
    """The pairs of one call or step."""

    name: str
    rows: tuple[Row, ...]

    @property
    def open(self) -> bool:
        """Whether a pair that can be reached was not seen on some backend."""
        return any(row.unseen(backend) for row in self.rows for backend in row.counts)


@cache
def environment() -> Environment:
    """Templates of this package."""
    loader = PackageLoader("bulkhead.report")
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["number"] = lambda value: f"{value:,}"
    made.filters["clock"] = lambda value: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(value))
    made.filters["prose"] = prose
    made.tests["contains"] = lambda whole, part: part in whole
    made.filters["share"] = lambda part, whole: 100 * part / whole if whole else 0.0
    return made


def prose(text: str) -> Markup:
    """A docstring's words; what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def render(lines: Sequence[Line], found: Sequence[Result], engine: str) -> str:
    """The page. `engine` is the hash of the shipped engine's ELF file. Details are of what can be read."""
    whole = [one for one in found if is_readable(one)]
    variants = [[one for one in whole if (one.kind, one.variant) == key] for key in dict.fromkeys(map(_key, whole))]
    shown = [newest(there) for there in variants]
    conform = {there[0].variant: largest(there) for there in variants if there[0].kind == "conform"}
    runs = {name: conform[name] for name in sorted(conform, key=lambda name: (ORDER.find(name) % len(ORDER), name))}
    made = steps({name: run.data for name, run in runs.items()}) if runs else []
    titles = {name: f"{name}, {run.data['calls']:,} calls" for name, run in runs.items()}
    return environment().get_template("report.html.j2").render(
        lines=lines, engine=engine, version=abi.release(), now=time.time(), Verdict=Verdict,
        of=lambda kind: [one for one in shown if one.kind == kind], runs=runs, complete=bool(specified()),
        steps=made, map=pair_map.draw(made, titles, {name for name, run in runs.items() if run.reduced}),
        gaps=gaps, slowest=slowest, places=places, sums=sums, failures=failures(found), tiles=tiles(lines),
    )  # fmt: skip


def _key(result: Result) -> tuple[str, str]:
    return result.kind, result.variant


def largest(there: Sequence[Result]) -> Result:
    """Of several runs of `conform` the one about today's engine with most calls."""
    return max(there, key=lambda one: (one.current, one.data["calls"]))


def tiles(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """Lines that have figures, and the first of each."""
    return [(line, re.split(", |; ", line.figure)[0]) for line in lines if line.kind and line.when]


def steps(runs: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    """The pairs by call or step."""
    rows = matrix(runs)
    return [Step(name, tuple(row for row in rows if row.step == name)) for name in dict.fromkeys(r.step for r in rows)]


def gaps(path: str, missing: Sequence[tuple[int, str]]) -> list[Gap]:
    """What is not covered in a file, with its source where there is a checkout."""
    source = _source(REPOSITORY / path)
    return [Gap(line, source[line - 1] if 0 < line <= len(source) else "", why) for line, why in missing]


@cache
def _source(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text().splitlines()) if path.is_file() else ()


def sums(files: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Lines and branches of several files together."""
    listed = list(files)
    return {name: sum(one[name] for one in listed) for name in ("lines", "covered", "branches", "covered_branches")}


def slowest(durations: Mapping[str, float]) -> list[tuple[str, float]]:
    """The tests that took longest, and their seconds."""
    return sorted(durations.items(), key=lambda item: -item[1])[:SLOWEST]


def places(durations: Mapping[str, float]) -> list[tuple[str, int, float]]:
    """Directories of tests, how many tests each has, and their seconds together; the longest first."""
    count, seconds = Counter[str](), defaultdict[str, float](float)
    for name, taken in durations.items():
        place = "/".join(name.split("::")[0].split("/")[:2])
        count[place] += 1
        seconds[place] += taken
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [(place, count[place], taken) for place, taken in ordered]
