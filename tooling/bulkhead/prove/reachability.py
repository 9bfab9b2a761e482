"""Which pairs no state can show: conditions that cannot be the one that fails, shapes that no success has.

About the specification alone, like `preservation`: the invariants are assumed at the keys that the step touches, then
all earlier conditions and the failure of this one, or all conditions and the blocks of this shape. What that
contradicts is unreachable, proved; what it does not contradict is not thereby reachable: that is shown by running it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Outcome, State
from bulkhead.spec.calls import tested
from bulkhead.spec.invariants import BY_MAP, OF_VCPUS, is_split, premise
from bulkhead.spec.invariants import config as config_invariant
from bulkhead.spec.pairs import UNREACHABLE, VCPU_FRAME, Pair, Shape, pairs_in, symbolic_step
from bulkhead.spec.state import CPUS_MAX, CpuWord, Kind, Run, VmState, VmWord
from bulkhead.spec.words import Truth, all_of, any_of, below, negate

from . import smt
from .exec.errors import ProofFailed
from .exec.solver import Solver, Statistics
from .smt import Bits
from .symbolic import empty_entry, fact, unknown_machine, unknown_state


class Reachability:
    """The questions about one call or step."""

    invariants = BY_MAP

    def __init__(self, step: str) -> None:
        self.step = step
        self.solver = Solver()
        self._instantiating = False
        self.state = self._unknown()
        self.solver.assume(fact(config_invariant(self.state.config)))
        self.outcome = self._run(step)

    def _unknown(self) -> State:
        return unknown_state(self._touch)

    def _run(self, step: str) -> Outcome:
        arguments = {name: smt.variable(name) for name in ARGUMENTS[step]}
        if step in STEPS:
            self.solver.assume(fact(premise(self.state, step, arguments)))
        return (CALLS | STEPS)[step](self.state, **arguments)

    def contradicted(self) -> Iterator[Pair]:
        """The pairs that no state with the invariants allows, by the answer of a solver; ProofFailed if all are."""
        pairs, impossible = pairs_in(self.step, self.outcome), 0
        with self.solver.scope():
            for need, pair in zip(self.outcome.needs, pairs.refusals, strict=True):
                if not self.solver.satisfiable(fact(negate(need.condition))):
                    yield pair
                self.solver.assume(fact(need.condition))
            for shape, pair in pairs.successes.items():
                if not self.solver.satisfiable(fact(self._has(shape))):
                    impossible += 1
                    yield pair
        if pairs.successes and impossible == len(pairs.successes):
            raise ProofFailed(f"no state with the invariants lets {self.step} succeed")

    def _has(self, shape: Shape) -> Truth:
        """Exactly the blocks of the shape count."""
        names = {part.name for part in self.outcome.parts}
        taken = {name: [part.taken for part in self.outcome.parts if part.name == name] for name in names}
        return all_of(
            *(any_of(*taken[name]) for name in shape),
            *(negate(part) for name in names - shape for part in taken[name]),
        )

    def _touch(self, name: str, key: Bits) -> None:
        if self._instantiating:
            return
        self._instantiating = True
        try:
            if name == "ram":
                self.solver.assume(empty_entry(self.state, key))
            for _, invariant in self.invariants[name]:
                self.solver.assume(fact(invariant(self.state, key)))
        finally:
            self._instantiating = False


class OfVcpus(Reachability):
    """The questions about a step that is tested only: of a vCPU that is loaded, or of the host beside ownership."""

    invariants = BY_MAP | {"cpu": OF_VCPUS["cpu"], "frame": BY_MAP["frame"] + OF_VCPUS["frame"]}

    def _unknown(self) -> State:
        return unknown_machine(self._touch)

    def _run(self, step: str) -> Outcome:
        cpu, frame = smt.variable("cpu"), smt.variable(VCPU_FRAME)
        self.solver.assume(fact(below(cpu, CPUS_MAX)))
        if step.startswith(tested.OF_VM):
            record = self.state.frame[frame]
            life = self.state.vm_word(record.vm, VmWord.STATE)
            runs = any_of(life == VmState.ACTIVE, life == VmState.DYING)
            is_here = record.parent == Run.LOADED | cpu
            here = all_of(is_split(self.state, frame), record.kind == Kind.VCPU, is_here, runs)
            self.solver.assume(fact(all_of(here, self.state.cpu_word(cpu, CpuWord.LOADED) == frame + 1)))
        return symbolic_step(step, self.state)


def prove(step: str) -> tuple[tuple[Pair, ...], Statistics]:
    """The unreachable pairs of a step are those that the specification lists; ProofFailed if not."""
    proof = Reachability(step)
    found = tuple(proof.contradicted())
    listed = {pair for pair in UNREACHABLE if pair.step == step}
    if wrong := listed - set(found):
        raise ProofFailed(f"nothing contradicts {', '.join(map(str, wrong))}: it may be reachable")
    if missing := set(found) - listed:
        raise ProofFailed(
            f"no state allows {', '.join(map(str, missing))}: `spec.pairs.UNREACHABLE` lacks it"
        )
    return found, proof.solver.statistics
