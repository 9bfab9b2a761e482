"""The invariants are inductive: a call that succeeds leads from a state that has them to one that has them.

This is about the specification alone; that the machine code does what it says is `refinement`. Each invariant is
proved at one arbitrary key of the state after the call, from its instances at the keys that this touches before.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.spec import ARGUMENTS, CALLS, STEPS
from bulkhead.spec.invariants import BY_MAP, INVARIANTS, premise
from bulkhead.spec.invariants import config as config_invariant
from bulkhead.spec.words import all_of

from . import smt
from .exec.errors import ProofFailed
from .exec.solver import Solver, Statistics
from .smt import Bits
from .symbolic import empty_entry, fact, unknown_state

BACK_POINTERS = {("vm_destroy", "frame"): 3, ("vm_destroy", "block"): 2}
"""How many records the proof follows from a frame or a block to its parent: that nothing is left below an empty root
takes the way from a page over its tables of level 3 and 2.
"""


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
        self._limit = 0
        self._emptying = False
        self.state = unknown_state(self._touch)
        self.arguments = {name: smt.variable(name) for name in ARGUMENTS[call]}
        self.solver.assume(fact(config_invariant(self.state.config)))
        if call in STEPS:
            self.solver.assume(fact(premise(self.state, call, self.arguments)))
        self.outcome = (CALLS | STEPS)[call](self.state, **self.arguments)
        self.solver.assume(fact(all_of(*(need.condition for need in self.outcome.needs))))

    def prove(self) -> Preserved:
        """ProofFailed names the first invariant that the call can break."""
        if not self.solver.satisfiable():
            raise ProofFailed(f"no state with the invariants lets {self.call} succeed")
        for name, invariant in INVARIANTS.items():
            key = smt.variable(f"any_{name}")
            self._limit = BACK_POINTERS.get((self.call, name), 0)
            with self.solver.scope():
                goal = fact(invariant(self.outcome.committed, key))
                self.solver.prove(goal, f"{self.call} can break the invariant `{name}`")
        return Preserved(self.call, tuple(INVARIANTS), self.solver.statistics)

    def _touch(self, name: str, key: Bits) -> None:
        if self._emptying:
            return
        if name == "ram":
            self._emptying = True
            self.solver.assume(empty_entry(self.state, key))
            self._emptying = False
        if self._depth and (name != "frame" or self._depth > self._limit):
            return
        self._depth += 1
        try:
            for _, invariant in BY_MAP[name]:
                self.solver.assume(fact(invariant(self.state, key)))
        finally:
            self._depth -= 1
