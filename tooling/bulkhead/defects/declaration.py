"""What a seeded defect says about itself. Trust label: STATEMENT.

A defect is one file in tests/defects/<family>/: its name is the file's, its title the first sentence of the docstring,
its family the common slip. `DEFECT = defect(...)` says which promise of engine/docs/threat-model.md it breaks, with
which exact edits of the engine's sources, and which part of the suite finds it. That part is never a test that was
written for the defect: it has to find what nobody thought of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bulkhead.attack.declaration import Promise
from bulkhead.image.variant import Edit

Part = Literal["conformance", "trace", "tests", "attacks"]


@dataclass(frozen=True)
class Finder:
    """A part of the suite. `names`: node ids of tests, or names and subjects of attacks; `backend`: for tests;
    `seconds`: for random steps, after which nothing is found."""

    part: Part
    names: tuple[str, ...] = ()
    backend: Literal["host", "qemu"] = "host"
    seconds: int = 60

    def __str__(self) -> str:
        if not self.names:
            return self.part
        return f"{self.part} {' '.join(self.names)} on {self.backend}"


@dataclass(frozen=True)
class Declaration:
    """What the file of a defect says."""

    breaks: Promise
    edits: tuple[Edit, ...]
    found_by: Finder


@dataclass(frozen=True)
class Defect:
    """A declared defect, with what follows from the place of its file."""

    family: str
    name: str
    title: str
    breaks: Promise
    edits: tuple[Edit, ...]
    found_by: Finder

    def __str__(self) -> str:
        return self.name


def defect(*, breaks: Promise, edits: Edit | tuple[Edit, ...], found_by: Finder) -> Declaration:
    """Declares the defect of a file."""
    return Declaration(breaks, (edits,) if isinstance(edits, Edit) else edits, found_by)


def conformance() -> Finder:
    """Random steps on the host build, each compared with the specification, and the invariants."""
    return Finder("conformance")


def trace() -> Finder:
    """Every step that changes ownership on the booted image, instruction by instruction: barriers, operands, order."""
    return Finder("trace", backend="qemu")


def suite(*node_ids: str, backend: Literal["host", "qemu"]) -> Finder:
    """Tests of the suite, by files or node ids, on the host build or on the booted image."""
    return Finder("tests", node_ids, backend)


def attacks(*names: str) -> Finder:
    """Attacks by name or subject, on the booted image."""
    return Finder("attacks", names, "qemu")
