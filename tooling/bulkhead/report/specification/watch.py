"""Watches a definition run on unknown states: each condition and each effect, with the words of its source.

Trust label: TOOL.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from bulkhead.prove import smt
from bulkhead.prove.symbolic import unknown_machine
from bulkhead.spec import transaction, vcpu
from bulkhead.spec.events import Event
from bulkhead.spec.state import State
from bulkhead.spec.syndrome import Syndrome
from bulkhead.spec.transaction import Need, Transaction
from bulkhead.spec.vcpu import VcpuTransaction
from bulkhead.spec.words import Truth, Word

MACHINERY = (transaction.__file__, vcpu.__file__, __file__)
"""Files in which a condition or an effect is carried out, but not decided on."""


@dataclass(frozen=True)
class Place:
    """The statement that a definition has come to: its text, and the function that it is in."""

    text: str
    function: str
    doc: str


@dataclass(frozen=True)
class Condition:
    """A condition as the source has it, the answer if it does not hold, and how often in a row it is asked."""

    place: Place
    text: str
    need: Need
    inside: str | None
    times: int = 1


@dataclass(frozen=True)
class Effect:
    """A statement that changes something, and the events that it leads to; `inside`: only in this block."""

    place: Place
    events: tuple[type, ...]
    inside: str | None


class Watch(Transaction):
    """A transaction that writes down what a definition does with it."""

    def __init__(self, before: State) -> None:
        super().__init__(before)
        self.conditions: list[Condition] = []
        self.effects: list[Effect] = []

    def need(self, condition: Truth, status: str, detail: Word = 0, exits: bool = False) -> None:
        """See Transaction."""
        known = len(self.needs)
        super().need(condition, status, detail, exits)
        place, text = _place(argument=True)
        for need in self.needs[known:]:
            self._add(Condition(place, text, need, self._inside))

    def _add(self, new: Condition) -> None:
        last = self.conditions[-1] if self.conditions else None
        if last and (last.text, last.place, last.need.label) == (new.text, new.place, new.need.label):
            self.conditions[-1] = Condition(new.place, new.text, new.need, new.inside, last.times + 1)
        else:
            self.conditions.append(new)

    def emit(self, event: Event) -> None:
        """See Transaction."""
        super().emit(event)
        self._happened(type(event))

    def set_vm(self, vm: Word, word: Word, value: Word) -> None:
        """See Transaction."""
        super().set_vm(vm, word, value)
        self._happened()

    def _happened(self, *events: type) -> None:
        if self._when is False:
            return
        place, _ = _place()
        last = self.effects[-1] if self.effects else None
        if last and (last.place, last.inside) == (place, self._inside):
            self.effects[-1] = Effect(place, tuple(dict.fromkeys((*last.events, *events))), self._inside)
        else:
            self.effects.append(Effect(place, events, self._inside))


class VcpuWatch(Watch, VcpuTransaction):
    """The same for a step of a vCPU."""

    def __init__(self, before: State) -> None:
        syndrome = Syndrome(smt.variable("esr"), smt.variable("far"), smt.variable("hpfar"))
        VcpuTransaction.__init__(self, before, smt.variable("own"), syndrome)
        self.conditions, self.effects = [], []

    def set_context(self, frame: Word, word: Word, value: Word) -> None:
        """See VcpuTransaction."""
        super().set_context(frame, word, value)
        self._happened()

    def answer(self, *registers: Word) -> None:
        """See VcpuTransaction."""
        super().answer(*registers)
        self._happened()

    def exit(self, exit_class: str, kind: int = 1) -> None:
        """See VcpuTransaction."""
        super().exit(exit_class, kind)
        self._happened()


def watch(definition: Callable[..., None]) -> Watch:
    """What the definition does with unknown arguments in an unknown state."""
    seen = VcpuWatch(unknown_machine(lambda _name, _key: None))
    names = tuple(inspect.signature(definition).parameters)[1:]
    transaction.run(
        seen.before, lambda t: definition(t, **{name: smt.variable(name) for name in names}), lambda _: seen
    )
    return seen


def _place(*, argument: bool = False) -> tuple[Place, str]:
    """The innermost statement that is the specification's own; also the text of its first argument if asked for."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename in MACHINERY:
        frame = frame.f_back
    assert frame is not None
    path, name = frame.f_code.co_filename, frame.f_code.co_name
    statement = _statement(path, frame.f_lineno)
    text = _one_line(ast.get_source_segment(_text(path), statement) or "")
    doc = inspect.getdoc(frame.f_globals.get(name)) or ""
    first = ""
    if argument and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        first = _one_line(ast.get_source_segment(_text(path), statement.value.args[0]) or "")
    return Place(text, name, " ".join(doc.split("\n\n")[0].split())), first


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("( ", "(").replace(", )", ")").replace(" )", ")")


@cache
def _text(path: str) -> str:
    return Path(path).read_text()


@cache
def _statements(path: str) -> tuple[ast.stmt, ...]:
    return tuple(node for node in ast.walk(ast.parse(_text(path))) if isinstance(node, ast.stmt))


def _statement(path: str, line: int) -> ast.stmt:
    """The smallest statement that the line is in."""
    around = [one for one in _statements(path) if one.lineno <= line <= (one.end_lineno or one.lineno)]
    return min(around, key=lambda one: (one.end_lineno or one.lineno) - one.lineno)
