"""All paths of one function: fork at every branch that can go both ways, stop at its return.

What is proved on the way: no panic is reachable, indirect branches go to known places, callee-saved
registers and the stack pointer are restored (AAPCS64 section 6.1.1), no path is longer than the bound.
Functions with a contract are not entered: their contract speaks for them, and is proved on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .. import isa, smt
from ..smt import Bits, Bool
from .errors import ProofFailed
from .state import STACK_TOP, Environment, MachineState

RETURN_ADDRESS = 0xFFF0_0000_0000
"""What the link register holds on entry: an address outside the image."""
STEP_BOUND = 20_000
CALLER_SAVED = range(19)
CALLEE_SAVED = range(19, 30)

Contract = Callable[[MachineState], list[Bits]]
"""Checks the preconditions, changes the state, and gives the result registers x0, x1, ..."""


@dataclass
class Summary:
    """What an exploration covered."""

    paths: int = 0
    instructions: int = 0
    longest_path: int = 0
    covered: set[int] = field(default_factory=set)


class Explorer:
    """Depth-first exploration of one function."""

    def __init__(
        self,
        environment: Environment,
        contracts: Mapping[str, Contract],
        panics: tuple[str, ...] = ("panic",),
        stop: int | None = None,
    ) -> None:
        """`stop`: an address at which paths end too, such as the head of a loop."""
        image = environment.image
        self.environment = environment
        self.contracts = {image.symbol(name).address: contract for name, contract in contracts.items()}
        self.panics = {
            symbol.address: name
            for name, symbol in image.symbols.items()
            if any(part in name for part in panics)
        }
        self.summary = Summary()
        self.stop = stop
        self.stopped: Callable[[MachineState], None] = lambda state: None

    def run(
        self, entry: str, arguments: Mapping[int, Bits], at_end: Callable[[MachineState], None]
    ) -> Summary:
        """Explore from the symbol `entry`; `at_end` is called within the facts of every path that returns, `stopped`
        within those of every path that comes to `stop`.
        """
        state = MachineState(self.environment, self.environment.image.symbol(entry).address)
        for number, value in arguments.items():
            state.x[number] = value
        state.x[30] = smt.word(RETURN_ADDRESS)
        self._saved = [state.x[number] for number in CALLEE_SAVED]
        self._finish = at_end
        self._follow(state)
        return self.summary

    def go_on(self, state: MachineState, at_end: Callable[[MachineState], None]) -> None:
        """Explore from a state that `stopped` was given, or one like it."""
        self._finish = at_end
        self._follow(state, leaving=True)

    def _follow(self, state: MachineState, leaving: bool = False) -> None:
        """Run until the path forks or ends; `leaving` the place to stop."""
        while True:
            if state.pc == RETURN_ADDRESS:
                self._end(state)
                return
            if state.pc == self.stop and not leaving:
                self.stopped(state)
                return
            leaving = False
            try:
                flow = self._step(state)
            except ProofFailed as failure:
                failure.trail = failure.trail or tuple(state.trail)
                raise
            if isinstance(flow, isa.Branch):
                condition = smt.simplify(flow.condition)
                if not (smt.is_true(condition) or smt.is_false(condition)):
                    self._fork(state, condition, flow.target)
                    return
                state.pc = flow.target if smt.is_true(condition) else state.pc + 4
            elif isinstance(flow, isa.Jump):
                state.pc = flow.target
            elif isinstance(flow, isa.Indirect):
                state.pc = self._destination(state, flow.target)
            elif isinstance(flow, isa.Return):
                raise state.failure("ERET inside a function")
            else:
                state.pc += 4

    def _step(self, state: MachineState) -> isa.Flow:
        """One instruction, or one call of a function with a contract."""
        if state.pc in self.panics:
            raise state.failure(
                f"a panic is reachable: {self.panics[state.pc]}", self.environment.solver.model()
            )
        contract = self.contracts.get(state.pc)
        if contract is not None and state.steps:
            return self._apply(state, contract)
        instruction = self.environment.image.instruction(state.pc)
        if instruction is None:
            raise state.failure("instruction fetch outside the code")
        state.steps += 1
        if state.steps > STEP_BOUND:
            raise state.failure(f"path longer than {STEP_BOUND} instructions")
        state.trail.append(state.pc)
        self.summary.instructions += 1
        self.summary.covered.add(state.pc)
        try:
            flow = isa.step(state, instruction)
        except isa.UnknownInstruction as unknown:
            raise state.failure(unknown.what) from unknown
        if state.trace and isinstance(state.trace[-1], isa.ExceptionCall):
            raise state.failure(
                f"{state.trace[-1].kind} instruction reachable", self.environment.solver.model()
            )
        return flow

    def _apply(self, state: MachineState, contract: Contract) -> isa.Flow:
        results = contract(state)
        for number in CALLER_SAVED:
            state.x[number] = smt.fresh(f"clobbered{number}")
        for number, value in enumerate(results):
            state.x[number] = smt.simplify(value)
        state.flags = isa.Flags(*(smt.fresh_bool(name) for name in "nzcv"))
        return isa.Indirect(state.x[30])

    def _destination(self, state: MachineState, target: Bits) -> int:
        constant = smt.constant(smt.simplify(target))
        if constant is None:
            raise state.failure("indirect branch to an address that is not constant")
        return constant

    def _fork(self, state: MachineState, condition: Bool, target: int) -> None:
        solver = self.environment.solver
        opposite = smt.negate(condition)
        may_take, may_pass = solver.satisfiable(condition), solver.satisfiable(opposite)
        ways = [(condition, target, may_take), (opposite, state.pc + 4, may_pass)]
        feasible = [(fact, pc) for fact, pc, possible in ways if possible]
        for fact, pc in feasible:
            branch = state.fork() if len(feasible) > 1 else state
            branch.pc = pc
            with solver.scope():
                solver.assume(fact)
                self._follow(branch)

    def _end(self, state: MachineState) -> None:
        self.summary.paths += 1
        self.summary.longest_path = max(self.summary.longest_path, state.steps)
        solver = self.environment.solver
        for number, before in zip(CALLEE_SAVED, self._saved, strict=True):
            solver.prove(state.x[number] == before, f"callee-saved x{number} not restored", state.pc)
        if smt.constant(state.sp) != STACK_TOP:
            raise state.failure("stack pointer not restored")
        try:
            self._finish(state)
        except ProofFailed as failure:
            failure.trail = failure.trail or tuple(state.trail)
            raise
