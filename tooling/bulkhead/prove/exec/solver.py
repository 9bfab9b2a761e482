"""The questions of a proof, answered by z3 within a short time, else by bitwuzla.

z3 is quick on the many small questions and slow on a few; bitwuzla decides those. Facts live in scopes
that follow the paths of the exploration. An answer "unknown" from both is a failure of the proof, never a
success.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import z3  # type: ignore[import-untyped]  # z3 ships no type information

from .. import smt
from ..smt import Bits, Bool, Model
from .errors import ProofFailed, SolverGaveUp

bitwuzla: Any = importlib.import_module("bitwuzla")  # no type information either

QUICK_MILLISECONDS = 400
PATIENT_MILLISECONDS = 120_000


@dataclass
class Statistics:
    """How much was asked, by solver."""

    questions: int = 0
    by_bitwuzla: int = 0
    seconds: float = 0.0
    longest: float = 0.0


class Solver:
    """A stack of facts and yes-or-no questions about them."""

    def __init__(self, statistics: Statistics | None = None) -> None:
        self._z3 = z3.SolverFor("QF_UFBV")
        self._z3.set("timeout", QUICK_MILLISECONDS)
        self._known: list[set[int]] = [set()]
        self._keep: list[Bool] = []  # z3 reuses the ids of terms that were dropped
        self._example: Model | None = None
        self.statistics = statistics or Statistics()

    def assume(self, fact: Bool) -> None:
        """Add a fact to the current scope."""
        fact = smt.simplify(fact)
        if smt.is_true(fact) or any(fact.get_id() in scope for scope in self._known):
            return
        self._known[-1].add(fact.get_id())
        self._keep.append(fact)
        self._z3.add(fact)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget what is assumed inside when it ends."""
        self._z3.push()
        self._known.append(set())
        try:
            yield
        finally:
            self._z3.pop()
            self._known.pop()

    def satisfiable(self, *conditions: Bool) -> bool:
        """Whether the conditions can hold together with the facts."""
        started = time.perf_counter()
        answer = str(self._z3.check(*conditions))
        if answer == "sat":
            self._example = self._z3.model()
        if answer == "unknown":
            self.statistics.by_bitwuzla += 1
            answer = self._ask_bitwuzla(conditions)
        elapsed = time.perf_counter() - started
        self.statistics.questions += 1
        self.statistics.seconds += elapsed
        self.statistics.longest = max(self.statistics.longest, elapsed)
        if answer not in ("sat", "unsat"):
            raise SolverGaveUp(f"neither z3 nor bitwuzla answered within their limits ({answer})")
        return answer == "sat"

    def may_equal(self, left: Bits, right: Bits) -> bool:
        """Whether two terms agree in the example found last: a cheap reason not to ask whether they are equal."""
        if self._example is None:
            return True
        return smt.value_in(self._example, left) == smt.value_in(self._example, right)

    def model(self, *conditions: Bool) -> Model | None:
        """Values that satisfy the conditions and the facts, or None if z3 cannot find any."""
        self._z3.set("timeout", PATIENT_MILLISECONDS)
        try:
            answer = str(self._z3.check(*conditions))
            return self._z3.model() if answer == "sat" else None
        finally:
            self._z3.set("timeout", QUICK_MILLISECONDS)

    def valid(self, goal: Bool) -> bool:
        """Whether the facts imply the goal; asked part by part."""
        goal = smt.simplify(goal)
        return smt.is_true(goal) or not any(
            self.satisfiable(smt.negate(part)) for part in smt.conjuncts(goal)
        )

    def prove(self, goal: Bool, what: str, pc: int | None = None) -> None:
        """Raise ProofFailed with a counterexample unless the facts imply the goal."""
        goal = smt.simplify(goal)
        if smt.is_true(goal):
            return
        for part in smt.conjuncts(goal):
            if self.satisfiable(smt.negate(part)):
                raise ProofFailed(what, pc, self.model(smt.negate(part)))

    def _ask_bitwuzla(self, conditions: tuple[Bool, ...]) -> str:
        question = z3.Solver()
        question.add(*self._z3.assertions(), *conditions)
        text = "(set-logic QF_UFBV)\n" + question.to_smt2().replace("(set-info :status unknown)", "")
        options = bitwuzla.Options()
        options.set(bitwuzla.Option.TIME_LIMIT_PER, PATIENT_MILLISECONDS)
        with tempfile.NamedTemporaryFile("w", suffix=".smt2") as file:
            file.write(text.replace("(check-sat)", ""))
            file.flush()
            terms = bitwuzla.TermManager()  # must outlive the parser and its solver
            parser = bitwuzla.Parser(terms, options)
            parser.parse(file.name, True)
            solver = parser.bitwuzla()
            answer = str(solver.check_sat()).rsplit(".", 1)[-1].lower()
            del solver, parser
            return answer
