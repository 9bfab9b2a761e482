"""State machines as drawings: places are chosen by hand, states and arrows are the specification's.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from xml.etree import ElementTree

from bulkhead.prove.transitions import VIEWS, Change, Changes

BOX = (118, 34)
STEP = (250, 120)
"""Distance of two places of the grid."""
MARGIN = 40
BOW = 22
"""How far an arrow bends away from the straight line."""
LINE = 15


@dataclass(frozen=True)
class Drawing:
    """Title, what it is about, and column and row of each state that steps lead to or from."""

    title: str
    text: str
    places: Mapping[str, tuple[float, float]]


DRAWINGS = {
    "vm": Drawing(
        "Life of a VM", "The state in the record of its slot.",
        {"FREE": (0, 0), "BUILDING": (1.1, 0), "ACTIVE": (2.2, 0), "DYING": (1.1, 1.2)},
    ),
    "vcpu": Drawing(
        "Run state of a vCPU", "In the record of the frame that holds its context; NONE is a frame that is no vCPU's.",
        {"NONE": (0, 0), "OFF": (1.2, 0), "RUNNABLE": (1.2, 1.4), "LOADED": (2.8, 0.7)},
    ),
    "frame": Drawing(
        "Who owns a frame", "The kind in the record that speaks for it: its own, or that of its 2 MiB block.",
        {"HOST": (1.2, 2), "VM_PAGE": (2.8, 2), "VM_TABLE": (2.8, 0), "VCPU": (1.2, 0.3), "HOST_TABLE": (0, 0.5),
         "DMA": (0, 2), "UNCLEARED": (2.8, 3.3)},
    ),
    "sharing": Drawing(
        "A page that a VM shares", "While it is the VM's.",
        {"PRIVATE": (0, 0), "OFFERED": (1.6, 0), "ACCEPTED": (0.8, 1.5)},
    ),
}  # fmt: skip


def draw(name: str, changes: Changes) -> str:
    """The SVG of one of VIEWS. KeyError if a state has an arrow and no place."""
    drawing = DRAWINGS[name]
    columns, rows = (max(place[axis] for place in drawing.places.values()) for axis in (0, 1))
    width, height = (int(2 * MARGIN + BOX[axis] + STEP[axis] * (columns, rows)[axis]) for axis in (0, 1))
    root = ElementTree.Element("svg", {
        "viewBox": f"0 0 {width} {height}", "width": str(width), "role": "img", "aria-label": drawing.title,
        "xmlns": "http://www.w3.org/2000/svg", "class": "diagram",
    })  # fmt: skip
    defs = ElementTree.SubElement(root, "defs")
    marker = {"id": f"tip-{name}", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "8",
              "markerHeight": "8", "orient": "auto"}  # fmt: skip
    ElementTree.SubElement(
        ElementTree.SubElement(defs, "marker", marker), "path", {"d": "M0,0 L8,4 L0,8 z", "class": "tip"}
    )
    for change, steps in changes.items():
        _arrow(root, name, drawing, change, steps, straight=change[::-1] not in changes)
    for state, place in drawing.places.items():
        _box(root, state, _centre(place))
    return ElementTree.tostring(root, encoding="unicode")


def untouched(name: str, changes: Changes) -> list[str]:
    """States that no step leads to or from."""
    moved = {state.name for change in changes for state in change}
    return [state.name for state in VIEWS[name].states if state.name not in moved]


def _centre(place: tuple[float, float]) -> tuple[float, float]:
    return MARGIN + BOX[0] / 2 + STEP[0] * place[0], MARGIN + BOX[1] / 2 + STEP[1] * place[1]


def _box(root: ElementTree.Element, state: str, centre: tuple[float, float]) -> None:
    x, y = centre
    corner = {"x": f"{x - BOX[0] / 2:.0f}", "y": f"{y - BOX[1] / 2:.0f}", "rx": "8"}
    ElementTree.SubElement(root, "rect", {**corner, "width": str(BOX[0]), "height": str(BOX[1]), "class": "state"})
    text = ElementTree.SubElement(root, "text", {"x": f"{x:.0f}", "y": f"{y + 5:.0f}", "class": "name"})
    text.text = state


def _arrow(
    root: ElementTree.Element, name: str, drawing: Drawing, change: Change, steps: Sequence[str], *, straight: bool
) -> None:
    """From box to box, bent to its right so that arrows back and forth part; the steps beside it."""
    start, end = (_centre(drawing.places[_name(state)]) for state in change)
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    right = ((start[1] - end[1]) / length, (end[0] - start[0]) / length)
    bow = 0 if straight else -BOW
    middle = tuple((start[axis] + end[axis]) / 2 + 2 * bow * right[axis] for axis in (0, 1))
    first, last = (_edge(place, (middle[0], middle[1]), bow * right[0] * 0.8) for place in (start, end))
    path = f"M{first[0]:.0f},{first[1]:.0f} Q{middle[0]:.0f},{middle[1]:.0f} {last[0]:.0f},{last[1]:.0f}"
    ElementTree.SubElement(root, "path", {"d": path, "class": "arrow", "marker-end": f"url(#tip-{name})"})
    top = [(start[axis] + end[axis]) / 2 + bow * right[axis] for axis in (0, 1)]
    _label(root, (top[0], top[1]), right, steps)


def _name(state: IntEnum) -> str:
    return state.name


def _edge(box: tuple[float, float], towards: tuple[float, float], shift: float) -> tuple[float, float]:
    """Where the line from the middle of a box leaves it."""
    dx, dy = towards[0] - box[0], towards[1] - box[1]
    reach = min(
        (BOX[axis] / 2 / abs(delta) for axis, delta in ((0, dx), (1, dy)) if abs(delta) > 1), default=0.0
    )
    return box[0] + dx * reach + (shift if abs(dx) < 1 else 0), box[1] + dy * reach


def _label(
    root: ElementTree.Element, at: tuple[float, float], right: tuple[float, float], steps: Sequence[str]
) -> None:
    """The names beside the top of an arrow, on the outer side: above or below a level one, else beside it."""
    level = abs(right[1]) > abs(right[0])
    anchor = "middle" if level else ("end" if right[0] > 0 else "start")
    x = at[0] if level else at[0] - 8 * (1 if right[0] > 0 else -1)
    above = level and right[1] > 0
    y = at[1] - 6 - LINE * (len(steps) - 1) if above else at[1] + (LINE if level else 4 - LINE * (len(steps) - 1) / 2)
    for number, step in enumerate(steps):
        place = {"x": f"{x:.0f}", "y": f"{y + LINE * number:.0f}", "text-anchor": anchor, "class": "step"}
        ElementTree.SubElement(root, "text", place).text = step
