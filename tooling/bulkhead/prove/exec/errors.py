"""How a proof fails: which obligation, where in the code, and with which concrete values."""

from __future__ import annotations

from bulkhead.errors import CheckFailed

from ..smt import Model


class ProofFailed(CheckFailed):
    """An obligation does not hold; `model` is a counterexample when the solver gave one."""

    def __init__(self, what: str, pc: int | None = None, model: Model | None = None) -> None:
        super().__init__(
            what,
            where=None if pc is None else f"pc {pc:#x}",
            hint="read the counterexample: either the code, the specification or an invariant is wrong",
        )
        self.pc = pc
        self.model = model
        self.trail: tuple[int, ...] = ()
        self.explanation = ""


class SolverGaveUp(ProofFailed):
    """Neither solver answered in time, so nothing is known."""
