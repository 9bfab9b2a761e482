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
from bulkhead.prove.symbolic import unknown_machine, unknown_state

from .calls import ARGUMENTS, CALLS, STEPS, tested
from .state import State
from .syndrome import Syndrome
from .transaction import Outcome, Part
from .vcpu import take

Shape = frozenset[str]
"""Names of the blocks of a definition that counted."""


class Pair(NamedTuple):
    """A step and how it ends: "7. NOT_OWNED(3)", the number on the way to success and answer of the condition that
    fails, or "SUCCESS" with the names of the blocks that counted.
    """

    step: str
    label: str

    @property
    def is_success(self) -> bool:
        """Whether the step does what it is for."""
        return self.label.startswith("SUCCESS")

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


_RAM_FAULT = ("lock taken", "mapped meanwhile", "not mapped", "external abort")
ALTERNATIVES: Mapping[str, tuple[tuple[str | None, ...], ...]] = {
    "vcpu_run": (("host_call answered", "load answered", None),),
    "VM: PSCI_CPU_OFF": (("unloaded",),),
    "VM: system register": (
        ("SGI", "read", "write", "undefined"),
        ("debug control", "breakpoint or watchpoint", None),
    ),
    "VM: data abort": ((*_RAM_FAULT, "store", "load"),),
    "VM: instruction abort": (_RAM_FAULT,),
    "VM: interrupt": (("timer", "maintenance", "the host's", None),),
}
"""Step of `calls.tested` → blocks of which exactly one counts, with None: at most one. A test proves that these, and no
others, are the shapes that no state with the invariants allows.
"""


def has_alternatives(step: str, shape: Shape) -> bool:
    """Whether a shape has one of each."""
    groups = ALTERNATIVES.get(step, ())
    return all(len(shape & set(group)) in ((0, 1) if None in group else (1,)) for group in groups)


def symbolic_step(step: str, state: State) -> Outcome:
    """The outcome of a step of `calls.tested` with unknown arguments and syndrome."""
    definition, name = tested.TESTED[step], smt.variable
    arguments = {argument: name(argument) for argument in tested.parameters(definition)}
    syndrome = Syndrome(name("esr"), name("far"), name("hpfar"))
    return take(step, state, lambda t: definition(t, **arguments), name(VCPU_FRAME), syndrome).outcome


VCPU_FRAME = "vcpu_frame"
"""The variable that stands for the context of the vCPU whose step it is."""


@cache
def tested_table() -> Mapping[str, Pairs]:
    """Step of `calls.tested` → its pairs."""
    nowhere = unknown_machine(lambda _name, _key: None)
    return {step: _possible(step, pairs_in(step, symbolic_step(step, nowhere))) for step in tested.TESTED}


def _possible(step: str, pairs: Pairs) -> Pairs:
    """Without the shapes that contradict themselves."""
    shapes = {shape: pair for shape, pair in pairs.successes.items() if has_alternatives(step, shape)}
    return Pairs(pairs.refusals, shapes)


@cache
def table() -> Mapping[str, Pairs]:
    """Call or step → its pairs."""
    return {step: pairs_in(step, symbolic_outcome(step)) for step in (*CALLS, *STEPS)}


def busy(call: str) -> Pair:
    """Another CPU holds the ownership lock, which a call of the host asks for before all else."""
    return Pair(call, "0. BUSY")


@cache
def whole_table() -> Mapping[str, Pairs]:
    """Every call and step that is specified → its pairs: those that are proved, behind the lock, and those that are
    tested only.
    """
    locked = {step: (busy(step),) if step in tested.LOCKED_CALLS else () for step in table()}
    own = {step: Pairs((*locked[step], *found.refusals), found.successes) for step, found in table().items()}
    return own | dict(tested_table())


def pairs_in(step: str, outcome: Outcome) -> Pairs:
    """The pairs of a step, from its outcome on terms."""
    refusals = tuple(Pair(step, f"{number}. {need.label}") for number, need in enumerate(outcome.needs, 1))
    names = list(dict.fromkeys(part.name for part in outcome.parts))
    shapes = [
        chosen for size in range(len(names) + 1) for chosen in combinations(names, size)
        if is_nested(set(chosen), outcome.parts)
    ]  # fmt: skip
    if outcome.success is False:
        return Pairs(refusals, {})
    return Pairs(refusals, {frozenset(shape): Pair(step, success_label(shape)) for shape in shapes})


def is_nested(shape: set[str], parts: Iterable[Part]) -> bool:
    """Whether each block that counts lies in one that counts, or in none."""
    return all(any(part.inside in (None, *shape) for part in parts if part.name == name) for name in shape)


def success_label(shape: Iterable[str]) -> str:
    """As in `Pair.label`."""
    return " ".join(("SUCCESS", ", ".join(shape))).strip()


def in_table(found: Mapping[str, Pairs]) -> tuple[Pair, ...]:
    """All pairs of a table."""
    return tuple(pair for own in found.values() for pair in (*own.refusals, *own.successes.values()))


def all_pairs() -> tuple[Pair, ...]:
    """Of every call and step that changes ownership, unreachable ones included."""
    return in_table(table())


def everything() -> tuple[Pair, ...]:
    """Of all that is specified, unreachable ones included."""
    return in_table(whole_table())


def reachable() -> tuple[Pair, ...]:
    """Those that a test can be asked for."""
    return tuple(pair for pair in all_pairs() if pair not in UNREACHABLE)


def every_reachable() -> tuple[Pair, ...]:
    """Of all that is specified."""
    return tuple(pair for pair in everything() if pair not in UNREACHABLE)


def unreachable() -> tuple[Pair, ...]:
    """Those that no state with the invariants allows."""
    return tuple(UNREACHABLE)


def of(step: str, outcome: Outcome) -> Pair:
    """The pair that a step on plain integers shows. KeyError if the specification has no such step."""
    pairs = tested_table()[step] if step in tested.TESTED else table()[step]
    if outcome.success is True:
        return pairs.successes[frozenset(part.name for part in outcome.parts if part.taken is True)]
    return pairs.refusals[len(outcome.needs) - 1]
