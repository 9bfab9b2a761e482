"""Steps that a vCPU takes, or that are about it: the view that their definitions have, and what comes of them.

Trust label: STATEMENT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import declassified, stage2
from .context import ContextWord, register
from .events import Event, SetRunState
from .state import Record, State
from .syndrome import HVC, Syndrome
from .transaction import EXIT, REPEAT, Need, Outcome, Transaction, run
from .words import Truth, Word, all_of, choose, plus

MINUS_ONE_INSTRUCTION = -4 & (1 << 64) - 1


@dataclass(frozen=True)
class Decision:
    """What happens behind a step of a VM: it goes on, or the host gets an exit; if `kind` is OFF, the vCPU is off."""

    GO_ON, EXIT, OFF = range(3)
    kind: Word
    exit_class: Word
    data: tuple[Word, Word, Word]


GO_ON = Decision(Decision.GO_ON, 0, (0, 0, 0))


class VcpuTransaction(Transaction):
    """The view of a step of the vCPU with context `vcpu`: its registers, and what the host gets to know."""

    def __init__(self, before: State, vcpu: Word = 0, syndrome: Syndrome = HVC) -> None:
        super().__init__(before)
        self.vcpu, self.syndrome = vcpu, syndrome
        self.answered: tuple[Word, ...] = ()
        self.decision = GO_ON
        self._takes_lock = False

    # What can end a step

    def take_lock_behind_arguments(self) -> None:
        """What follows needs the ownership lock once the arguments are sound; without it the VM tries again."""
        self._takes_lock = True

    def need(self, condition: Truth, status: str, detail: Word = 0, exits: bool = False) -> None:
        """See Transaction."""
        if self._takes_lock and status != "INVALID_ARGUMENT":
            self._takes_lock = False
            super().need(self.before.inputs.lock == 0, REPEAT)
        super().need(condition, status, detail, exits)

    def answer(self, *registers: Word) -> None:
        """x0, x1, ... of the caller when every condition holds."""
        self.answered = registers

    def again(self) -> None:
        """The VM executes the instruction that has stopped it once more: nothing happens."""

    def exit(self, exit_class: str, kind: int = Decision.EXIT) -> None:
        """The host gets an exit of this class, with what it may learn by it."""
        data = declassified.data(exit_class, self._read_before, self.syndrome)
        new, old, when = Decision(kind, EXIT[exit_class], data), self.decision, self._when
        first, second, third = (choose(when, a, b) for a, b in zip(new.data, old.data, strict=True))
        self.decision = Decision(
            choose(when, new.kind, old.kind),
            choose(when, new.exit_class, old.exit_class),
            (first, second, third),
        )

    def _read_before(self, number: Word) -> Word:
        return self.before.ram[stage2.word(self.vcpu, number)]

    # The vCPU

    @property
    def owner(self) -> Record:
        """The record of the context: `vm`, `slot` (the index of the vCPU), `parent` (its run state)."""
        return self.before.frame[self.vcpu]

    def word(self, number: Word) -> Word:
        """A word of the context as it is now."""
        return self.after.ram[stage2.word(self.vcpu, number)]

    def set_word(self, number: Word, value: Word) -> None:
        """Changes a word of the context."""
        self.set_context(self.vcpu, number, value)

    def x(self, number: Word) -> Word:
        """The general register that an instruction names: 31 reads zero."""
        return declassified.of_transfer(self.word, number)

    def set_x(self, number: Word, value: Word) -> None:
        """Writes the general register that an instruction names: 31 stays zero."""
        self.set_word(number, choose(number == ContextWord.ZERO, self.word(number), value))

    def system(self, name: str) -> Word:
        """A system register."""
        return self.word(register(name))

    def set_system(self, name: str, value: Word) -> None:
        """Writes a system register."""
        self.set_word(register(name), value)

    def advance(self) -> None:
        """The engine has executed the instruction in the VM's place: a software step is complete with it, and what
        follows is no target of an indirect branch (PSTATE.SS and BTYPE).
        """
        self.set_word(ContextWord.PC, plus(self.word(ContextWord.PC), 4))
        self.set_word(
            ContextWord.PSTATE, self.word(ContextWord.PSTATE) & ~(1 << 21 | 3 << 10) & (1 << 64) - 1
        )

    # What belongs to it

    def set_context(self, frame: Word, word: Word, value: Word) -> None:
        """A word of the context in a frame."""
        self.after.ram.set(stage2.word(frame, word), value, self._when)

    def set_cpu(self, cpu: Word, word: Word, value: Word) -> None:
        """A word that the engine keeps for a CPU."""
        self.after.cpu.set(cpu << 1 | word, value, self._when)

    def emit_if(self, condition: Truth, event: Event) -> None:
        """Something happens under a condition that makes no other shape of the step."""
        when = all_of(self._when, condition)
        if when is not False:
            self.events.append((when, event))

    def set_run_state(self, frame: Word, record: Record, run_state: Word) -> None:
        """The run state of the vCPU whose record is `record`."""
        self.after.frame.set(frame, record._replace(parent=run_state), self._when)
        self.emit(SetRunState(frame, run_state))


@dataclass(frozen=True)
class Taken:
    """A step of a vCPU: its outcome, the state behind it with the caller's registers, and what happens next."""

    name: str
    outcome: Outcome
    state: State
    decision: Decision


def take(
    name: str,
    before: State,
    definition: Callable[[VcpuTransaction], None],
    vcpu: Word = 0,
    syndrome: Syndrome = HVC,
) -> Taken:
    """Carry out a step of the vCPU whose context is in frame `vcpu`."""
    t = VcpuTransaction(before, vcpu, syndrome)
    outcome = run(before, lambda _: definition(t), lambda _: t)
    if outcome.success is False:
        return _refused(name, t, outcome)
    for number, value in enumerate(t.answered):
        outcome.committed.ram.set(stage2.word(vcpu, number), value, True)
    return Taken(name, outcome, outcome.committed, t.decision)


def _refused(name: str, t: VcpuTransaction, outcome: Outcome) -> Taken:
    """The VM is told, or the host, whereupon the VM repeats its call; nothing else has changed."""
    need, state, pc = outcome.needs[-1], outcome.before.copy(), stage2.word(t.vcpu, ContextWord.PC)
    if need.exits or need.status == REPEAT:
        state.ram.set(pc, plus(state.ram[pc], MINUS_ONE_INSTRUCTION), True)
        exits = Decision(Decision.EXIT, need.answer, (need.detail, 0, 0)) if need.exits else GO_ON
        return Taken(name, outcome, state, exits)
    for number, value in enumerate(refusal(name, need)):
        state.ram.set(stage2.word(t.vcpu, number), value, True)
    return Taken(name, outcome, state, GO_ON)


def refusal(name: str, need: Need) -> tuple[Word, ...]:
    """x0, x1, ... of whoever is refused: the standards' errors have no detail, TRNG's come with zeros."""
    if need.status == "NOT_SUPPORTED" or "PSCI" in name:
        return (need.answer,)
    return (need.answer, 0, 0, 0) if "TRNG" in name else (need.answer, need.detail)
