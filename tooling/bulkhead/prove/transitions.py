"""Which step leads from which state of a VM, frame, page or vCPU to which: found by a solver in the specification.

Trust label: TOOL. For each step all changes are enumerated, for any VM or frame and any state with the invariants; the
solver's last answer is that there is no other. Diagrams drawn from this cannot disagree with the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from bulkhead.spec import CALLS, STEPS
from bulkhead.spec.calls import tested
from bulkhead.spec.promises import owner
from bulkhead.spec.state import Kind, Run, Shared, State, VmState, VmWord
from bulkhead.spec.transaction import Outcome
from bulkhead.spec.words import Word, all_of, any_of, below, choose, negate, term

from . import smt
from .exec.solver import Solver
from .reachability import OfVcpus, Reachability
from .smt import Bits
from .symbolic import fact

Change = tuple[IntEnum, IntEnum]
Changes = Mapping[Change, Sequence[str]]
"""Change → the steps that make it."""


class VcpuState(IntEnum):
    """Run state of a vCPU, with the time before and after its life."""

    NONE = 0xFFFF
    OFF = Run.OFF
    RUNNABLE = Run.RUNNABLE
    TRANSIT = Run.TRANSIT
    LOADED = Run.LOADED


@dataclass(frozen=True)
class View:
    """A state machine: its states, and in which of them a VM or frame is. None elsewhere: what has no such state."""

    states: type[IntEnum]
    at: Callable[[State, Bits], Word]
    of_vm: bool = False


def _sharing(state: State, frame: Bits) -> Word:
    record = owner(state, frame)
    return choose(record.kind == Kind.VM_PAGE, record.shared, 0xFF)


def _run_state(state: State, frame: Bits) -> Word:
    record = owner(state, frame)
    run = choose(term(record.parent) & Run.LOADED == 0, record.parent, Run.LOADED)
    return choose(record.kind == Kind.VCPU, run, VcpuState.NONE)


VIEWS = {
    "vm": View(VmState, lambda state, slot: state.vm_word(slot, VmWord.STATE), of_vm=True),
    "frame": View(Kind, lambda state, frame: owner(state, frame).kind),
    "sharing": View(Shared, _sharing),
    "vcpu": View(VcpuState, _run_state),
}


def changes() -> dict[str, dict[Change, list[str]]]:
    """For each of VIEWS all changes by all steps. Takes a minute."""
    found: dict[str, dict[Change, list[str]]] = {name: {} for name in VIEWS}
    for proof in _steps():
        for name, view in VIEWS.items():
            for change in _changes(proof.solver, proof.outcome, view):
                found[name].setdefault(change, []).append(proof.step)
    return found


def _steps() -> Iterator[Reachability]:
    """Every step, with its success assumed."""
    yield from map(_successful, map(Reachability, (*CALLS, *STEPS)))
    others = [name for name in tested.TESTED if name.removeprefix(tested.OF_VM) not in STEPS]
    yield from map(_successful, map(OfVcpus, others))


def _successful(proof: Reachability) -> Reachability:
    proof.solver.assume(fact(proof.outcome.success))
    return proof


def _changes(solver: Solver, outcome: Outcome, view: View) -> Iterator[Change]:
    """The changes that the step can make, one example after the other, until there is no more."""
    which = smt.variable("which")
    limit: Word = 64 if view.of_vm else outcome.before.config.frames
    with solver.scope():
        solver.assume(fact(below(which, limit)))
        before, after = view.at(outcome.before, which), view.at(outcome.committed, which)
        for value in (before, after):
            solver.assume(fact(any_of(*(value == one for one in view.states))))
        solver.assume(fact(negate(before == after)))
        while solver.satisfiable(smt.truth(True)):
            change = _example(solver, view.states, before, after)
            yield change
            solver.assume(fact(negate(all_of(before == change[0], after == change[1]))))


def _example(solver: Solver, states: type[IntEnum], before: Word, after: Word) -> Change:
    first = next(one for one in states if solver.satisfiable(fact(before == one)))
    solver_after = (one for one in states if solver.satisfiable(fact(all_of(before == first, after == one))))
    return first, next(solver_after)
