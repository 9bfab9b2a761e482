"""Encoding diagrams: the bit layouts of chapter C4.1 as text, and the words that match them.

A diagram lists the fields of a 32-bit word from bit 31 down: a run of 0 and 1 is fixed, `name:width` is a
field, `name` alone is one bit wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .machine import Flow, Machine, UnknownInstruction


class Operands:
    """The fields of one instruction word, by the names of its diagram."""

    def __init__(self, instruction: int, layout: dict[str, tuple[int, int]]) -> None:
        self.instruction = instruction
        self._values = {
            name: instruction >> low & ((1 << width) - 1) for name, (low, width) in layout.items()
        }
        self._widths = {name: width for name, (_, width) in layout.items()}

    def __getattr__(self, name: str) -> int:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def datasize(self) -> int:
        """32 or 64, from the field `sf`."""
        return 64 if self.sf else 32

    def signed(self, name: str) -> int:
        """The field read as a two's complement number."""
        value, width = self._values[name], self._widths[name]
        return value - (1 << width) if value >> (width - 1) else value

    def unknown(self, why: str) -> UnknownInstruction:
        """The error to raise for a word whose fields are unallocated together."""
        return UnknownInstruction(self.instruction, why)

    def require(self, condition: bool, why: str) -> None:
        """Refuse the word unless `condition` holds."""
        if not condition:
            raise self.unknown(why)


Semantics = Callable[[Machine, Operands], Flow]


@dataclass(frozen=True)
class Encoding:
    """One diagram with the function that carries it out."""

    title: str
    mask: int
    value: int
    layout: dict[str, tuple[int, int]]
    semantics: Semantics

    def matches(self, instruction: int) -> bool:
        return instruction & self.mask == self.value

    def overlaps(self, other: Encoding) -> bool:
        """Whether some word matches both diagrams."""
        common = self.mask & other.mask
        return self.value & common == other.value & common


class Group:
    """The diagrams of one section, filled by the decorator `encoding`."""

    def __init__(self) -> None:
        self.encodings: list[Encoding] = []

    def encoding(self, title: str, diagram: str) -> Callable[[Semantics], Semantics]:
        """Declare that words of this shape are carried out by the decorated function."""

        def declare(semantics: Semantics) -> Semantics:
            self.encodings.append(parse(title, diagram, semantics))
            return semantics

        return declare


def parse(title: str, diagram: str, semantics: Semantics) -> Encoding:
    """Read a diagram; ValueError if its widths do not add up to 32."""
    mask = value = 0
    low = 32
    layout: dict[str, tuple[int, int]] = {}
    for token in diagram.split():
        if set(token) <= {"0", "1"}:
            low -= len(token)
            mask |= ((1 << len(token)) - 1) << low
            value |= int(token, 2) << low
        else:
            name, _, width = token.partition(":")
            low -= int(width or 1)
            layout[name] = (low, int(width or 1))
    if low != 0:
        raise ValueError(f"diagram of {title} covers {32 - low} bits")
    return Encoding(title, mask, value, layout, semantics)
