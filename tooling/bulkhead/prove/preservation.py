"""The invariants are inductive: a call that succeeds leads from a state that has them to one that has them.

This is about the specification alone; that the machine code does what it says is `refinement`. Each invariant is
proved at one arbitrary key of the state after the call, from its instances at the keys that this touches before.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.spec import ARGUMENTS, CALLS
from bulkhead.spec.invariants import BY_MAP, INVARIANTS
from bulkhead.spec.invariants import config as config_invariant
from bulkhead.spec.words import all_of

from . import smt
from .exec.errors import ProofFailed
from .exec.solver import Solver, Statistics
from .smt import Bits
from .symbolic import fact, unknown_state


@dataclass
class Preserved:
    """What one proof of preservation covered."""

    call: str
    invariants: tuple[str, ...]
    statistics: Statistics


class Preservation:
    """The proof for one call."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.solver = Solver()
        self._depth = 0
        self.state = unknown_state(self._touch)
        self.arguments = {name: smt.variable(name) for name in ARGUMENTS[call]}
        self.solver.assume(fact(config_invariant(self.state.config)))
        self.outcome = CALLS[call](self.state, **self.arguments)
        self.solver.assume(fact(all_of(*(need.condition for need in self.outcome.needs))))

    def prove(self) -> Preserved:
        """ProofFailed names the first invariant that the call can break."""
        if not self.solver.satisfiable():
            raise ProofFailed(f"no state with the invariants lets {self.call} succeed")
        for name, invariant in INVARIANTS.items():
            key = smt.variable(f"any_{name}")
            with self.solver.scope():
                goal = fact(invariant(self.outcome.committed, key))
                self.solver.prove(goal, f"{self.call} can break the invariant `{name}`")
        return Preserved(self.call, tuple(INVARIANTS), self.solver.statistics)

    def _touch(self, name: str, key: Bits) -> None:
        if self._depth:
            return
        self._depth += 1
        try:
            for _, invariant in BY_MAP[name]:
                self.solver.assume(fact(invariant(self.state, key)))
        finally:
            self._depth -= 1
