"""All pairs on all backends as one drawing, a cell for each: the darker, the more often it was seen.

Trust label: TOOL.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from bulkhead.report.pairs import SHORT, Row

CELL, GAP = 11, 2
"""Side of a cell and the space beside it, in pixels, as all lengths here."""
ACROSS = 22
"""Cells in a line of one backend; more go to further lines."""
LABELS, PANEL, TOP, BETWEEN = 190, ACROSS * CELL + 26, 22, 5
SHADES = 5
"""Shades of cells that were seen: once, ten times, ... ten thousand times or more."""


class Step(Protocol):
    """A call or step with its pairs."""

    @property
    def name(self) -> str:
        """As the specification calls it."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """Its pairs."""
        ...


def state(row: Row, backend: str, *, reduced: bool) -> str:
    """What a cell shows of a run, as a class of the style sheet."""
    count = row.counts[backend]
    if row.unreachable:
        return "wrong" if count else "never"
    if count:
        return f"s{min(SHADES - 1, int(math.log10(count)))}"
    if backend in row.beyond:
        return "beyond"
    return "unhurried" if reduced or backend in SHORT else "unseen"


def told(row: Row, backend: str) -> str:
    """What a cell says when it is pointed at."""
    count = row.counts[backend]
    why = f"unreachable: {row.unreachable}" if row.unreachable else row.beyond.get(backend, "")
    return f"{row.step}: {row.label}, {backend}: {why if why and not count else f'{count:,} times'}"


def draw(steps: Sequence[Step], titles: Mapping[str, str], reduced: Collection[str]) -> Markup:
    """The drawing; `titles`: backend → the heading of its panel; `reduced` are those whose run is."""
    lines = [-(-len(step.rows) // ACROSS) for step in steps]
    height = TOP + sum(CELL * count + BETWEEN for count in lines)
    width = LABELS + PANEL * len(titles)
    svg = Element("svg", {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height),
                          "class": "map", "role": "img"})  # fmt: skip
    for panel, heading in enumerate(titles.values()):
        _text(svg, LABELS + PANEL * panel, 12, heading, "head")
    y = TOP
    for step, count in zip(steps, lines, strict=True):
        _text(svg, LABELS - 10, y + CELL - 2, step.name, "name")
        for panel, backend in enumerate(titles):
            states = [state(row, backend, reduced=backend in reduced) for row in step.rows]
            words = [told(row, backend) for row in step.rows]
            _cells(svg, list(zip(states, words, strict=True)), LABELS + PANEL * panel, y)
        y += CELL * count + BETWEEN
    return Markup(tostring(svg, encoding="unicode"))


def _text(svg: Element, x: int, y: int, words: str, kind: str) -> None:
    SubElement(svg, "text", {"x": str(x), "y": str(y), "class": kind}).text = words


def _cells(svg: Element, cells: Sequence[tuple[str, str]], left: int, top: int) -> None:
    side = str(CELL - GAP)
    for number, (kind, words) in enumerate(cells):
        x, y = left + CELL * (number % ACROSS), top + CELL * (number // ACROSS)
        place = {"x": str(x), "y": str(y), "width": side, "height": side, "rx": "2"}
        cell = SubElement(svg, "rect", {**place, "class": kind})
        SubElement(cell, "title").text = words
