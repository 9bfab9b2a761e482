"""What there is to see of a step: each condition that can refuse it, and each shape in which it can succeed.

Trust label: STATEMENT. A *pair* is a step with one of these. The table is what the definitions themselves say when they
run on unknown states and arguments: a new call, condition or block of a call is in it at once. `UNREACHABLE` lists the
pairs that no state with the invariants allows; `bulkhead.prove.reachability` proves each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import NamedTuple

from bulkhead.prove import smt
from bulkhead.prove.symbolic import unknown_state

from .calls import ARGUMENTS, CALLS, STEPS
from .transaction import Outcome, Part

Shape = frozenset[str]
"""Names of the blocks of a definition that counted."""


class Pair(NamedTuple):
    """A step and how it ends: "7. NOT_OWNED(3)", the number on the way to success and answer of the condition that
    fails, or "SUCCESS" with the names of the blocks that counted.
    """

    step: str
    label: str

    def __str__(self) -> str:
        return f"{self.step}: {self.label}"


@dataclass(frozen=True)
class Pairs:
    """The pairs of one step: by position of the condition that fails, and by shape of success."""

    refusals: tuple[Pair, ...]
    successes: Mapping[Shape, Pair]


UNREACHABLE: Mapping[Pair, str] = {
    Pair("map", "SUCCESS"): "a page is zeroed or measured",
    Pair("map", "SUCCESS zeroed, measured"): "a page has one mode",
    Pair("reclaim", "SUCCESS"): "what is reclaimed is a page or a vCPU",
    Pair("reclaim", "SUCCESS page, vcpu"): "a frame is of one kind",
    Pair("reclaim", "SUCCESS page, accepted, vcpu"): "a frame is of one kind",
}
"""Pairs that no state with the invariants allows, and why."""


def symbolic_outcome(step: str) -> Outcome:
    """The outcome of a call or step with unknown arguments in an unknown state."""
    arguments = {name: smt.variable(name) for name in ARGUMENTS[step]}
    return (CALLS | STEPS)[step](unknown_state(lambda _name, _key: None), **arguments)


@cache
def table() -> Mapping[str, Pairs]:
    """Call or step → its pairs."""
    return {step: pairs_in(step, symbolic_outcome(step)) for step in (*CALLS, *STEPS)}


def pairs_in(step: str, outcome: Outcome) -> Pairs:
    """The pairs of a step, from its outcome on terms."""
    refusals = tuple(Pair(step, f"{number}. {need.label}") for number, need in enumerate(outcome.needs, 1))
    names = list(dict.fromkeys(part.name for part in outcome.parts))
    shapes = [
        chosen for size in range(len(names) + 1) for chosen in combinations(names, size)
        if is_nested(set(chosen), outcome.parts)
    ]  # fmt: skip
    return Pairs(refusals, {frozenset(shape): Pair(step, success_label(shape)) for shape in shapes})


def is_nested(shape: set[str], parts: Iterable[Part]) -> bool:
    """Whether each block that counts lies in one that counts, or in none."""
    return all(any(part.inside in (None, *shape) for part in parts if part.name == name) for name in shape)


def success_label(shape: Iterable[str]) -> str:
    """As in `Pair.label`."""
    return " ".join(("SUCCESS", ", ".join(shape))).strip()


def all_pairs() -> tuple[Pair, ...]:
    """Of every call and step, unreachable ones included."""
    return tuple(pair for pairs in table().values() for pair in (*pairs.refusals, *pairs.successes.values()))


def reachable() -> tuple[Pair, ...]:
    """Those that a test can be asked for."""
    return tuple(pair for pair in all_pairs() if pair not in UNREACHABLE)


def unreachable() -> tuple[Pair, ...]:
    """Those that no state with the invariants allows."""
    return tuple(UNREACHABLE)


def of(step: str, outcome: Outcome) -> Pair:
    """The pair that a step on plain integers shows. KeyError if the specification has no such step."""
    pairs = table()[step]
    if outcome.success is True:
        return pairs.successes[frozenset(part.name for part in outcome.parts if part.taken is True)]
    return pairs.refusals[len(outcome.needs) - 1]
