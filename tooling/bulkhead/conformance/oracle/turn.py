"""What a VM does in a turn on a CPU, from its entry to its exit, as the specification has it.

Trust label: TOOL. The VM's program is `trapping`, so each instruction is an exception; which one it is, and what the
CPU tells of it, follows from the vCPU's registers and the VM's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.trapping import EC_SHIFT, EC_SVE, FETCH, Instruction, Program
from bulkhead.conformance.oracle.vcpus import IRQ, as_step
from bulkhead.spec import Outcome, State, dispatch, pairs, stage2
from bulkhead.spec.calls.exceptions import MAINTENANCE_INTID
from bulkhead.spec.calls.running import LIST_STATE, TIMER_INTID
from bulkhead.spec.context import ContextWord, register
from bulkhead.spec.dispatch import Called
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import CpuWord, VmWord
from bulkhead.spec.syndrome import EC_HVC
from bulkhead.spec.vcpu import Decision, Taken, VcpuTransaction, take
from bulkhead.spec.words import Word, plus

HOST_TIMER_INTID = 30
"""The host's own timer, which ends turns that do not end."""
STEPS_MAX = 6
"""Exceptions of one turn."""
TIMER_FIRES = (1, 5)
"""CNTV_CTL_EL0: enabled, not masked, with any status."""
UNDERFLOW = 1 << 1
"""Bit of the control word: an interrupt when at most one list register is in use (IHI 0069, `ICH_HCR_EL2.UIE`)."""
MODE, EL0 = 0xF, 0
SVE = 3 << 16
"""ZEN of CPACR_EL1: no trap of SVE at EL1."""
LISTS, CONTROL = slice(3, 6), 6
"""Registers of `vcpu_run`."""
Settle = Callable[[Outcome], State]


class NotForetold(Exception):
    """The VM would do something that is not modelled here."""


@dataclass(frozen=True)
class Course:
    """A turn: the call that began it, the steps that it took, the state before each, and the one behind the last.

    Without steps if the call was refused. The last of the steps is the exit.
    """

    called: Called
    steps: tuple[Taken, ...]
    before: tuple[State, ...]
    after: State

    @property
    def end(self) -> Decision | None:
        """How the turn ended; None if it did not begin."""
        return self.steps[-1].decision if self.steps else None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """What it shows."""
        taken = [(self.called.name, self.called.outcome), *((step.name, step.outcome) for step in self.steps)]
        return tuple(pairs.of(name, outcome) for name, outcome in taken)

    @property
    def ends_by_host(self) -> bool:
        """Whether it takes an interrupt of the host to end the turn."""
        return self.end is not None and bool(self.end.exit_class == IRQ)


def uncommitted(outcome: Outcome) -> State:
    """Settles a step in thought only."""
    return outcome.state


def play(
    state: State,
    cpu: int,
    sent: Sequence[int],
    program: Program,
    settle: Settle = uncommitted,
    interrupted: int = STEPS_MAX,
) -> Course:
    """The turn of a vCPU with that program which the host begins by `vcpu_run` with x0 to x17 as `sent`.

    `settle` carries out each step and gives the state behind it. After `interrupted` steps the host gets an interrupt.
    NotForetold.
    """
    called, was_loaded = dispatch.host_call(state, cpu, sent), state.cpu_word(cpu, CpuWord.LOADED)
    state = settle(called.outcome)
    frame = called.entered
    if frame is None:
        return Course(called, (), (), state)
    assert isinstance(frame, int)
    steps: list[Taken] = []
    before: list[State] = []
    for intid in _pending(state, cpu, frame, sent, bool(was_loaded == frame + 1)):
        if len(steps) < interrupted:
            before.append(state)
            steps.append(dispatch.interrupt(state, frame, intid))
            state = settle(as_step(steps[-1]))
    stands = False
    while not steps or steps[-1].decision.kind == Decision.GO_ON:
        if len(steps) == STEPS_MAX:
            raise NotForetold
        if stands or len(steps) == interrupted:
            before.append(state)
            steps.append(dispatch.interrupt(state, frame, HOST_TIMER_INTID))
            state = settle(as_step(steps[-1]))
            break
        counter = state.ram[stage2.word(frame, ContextWord.PC)]
        esr, far, hpfar = _next(state, frame, program)
        if esr is None:
            stands = True
            continue
        if esr >> 26 == EC_HVC:
            state = settle(take("HVC", state, _pass, frame).outcome)
        before.append(state)
        steps.append(dispatch.exception(state, frame, esr, far, hpfar))
        state = settle(as_step(steps[-1]))
        stands = bool(state.ram[stage2.word(frame, ContextWord.PC)] == counter)
    return Course(called, tuple(steps), tuple(before), state)


def _pass(t: VcpuTransaction) -> None:
    """The preferred return address of an HVC is that of the next instruction (DDI 0487, D1.3)."""
    t.set_word(ContextWord.PC, plus(t.word(ContextWord.PC), 4))


def _pending(state: State, cpu: int, frame: int, sent: Sequence[int], stayed: bool) -> list[int]:
    """Physical interrupts that wait for the VM's entry. NotForetold if there are two, or if the vCPU has stayed on the
    CPU, whose timer interrupt may still be active from an earlier turn.
    """
    control = state.ram[stage2.word(frame, register("CNTV_CTL_EL0"))]
    compare = state.ram[stage2.word(frame, register("CNTV_CVAL_EL0"))]
    fires = control in TIMER_FIRES and bool(compare == 0)
    lists = (*sent[LISTS], state.cpu_word(cpu, CpuWord.TIMER_LIST))
    few = sum(1 for value in lists if isinstance(value, int) and value & LIST_STATE) <= 1
    due = [TIMER_INTID] * fires + [MAINTENANCE_INTID] * bool(sent[CONTROL] & UNDERFLOW and few)
    if len(due) > 1 or (fires and stayed):
        raise NotForetold
    return due


def _next(state: State, frame: int, program: Program) -> tuple[int | None, int, int]:
    """ESR, FAR and HPFAR of the exception that the vCPU's next instruction is; no ESR if it is none."""

    def word(number: Word) -> int:
        value = state.ram[stage2.word(frame, number)]
        assert isinstance(value, int)
        return value

    vm, pc = state.frame[frame].vm, word(ContextWord.PC)
    if not program.base <= pc < program.end:
        return _fault(state, vm, FETCH, pc)
    try:
        one: Instruction = program.at(pc)
    except KeyError as error:
        raise NotForetold from error
    if word(ContextWord.PSTATE) & MODE == EL0 and not one.at_el0:
        raise NotForetold
    if one.base is None:
        is_sve = one.syndrome is not None and one.syndrome >> EC_SHIFT == EC_SVE
        if is_sve and word(register("CPACR_EL1")) & SVE != SVE:
            raise NotForetold  # the VM's own trap
        return one.syndrome, 0, 0
    assert one.syndrome is not None
    address = word(one.base)
    if address % one.bytes:
        raise NotForetold
    return _fault(state, vm, one.syndrome, address)


def _fault(state: State, vm: Word, syndrome: int, address: int) -> tuple[int, int, int]:
    """A stage 2 translation fault at this address; NotForetold where there is memory."""
    level = fault_level(state, vm, address)
    if level is None or address >> stage2.IPA_BITS:
        raise NotForetold
    return syndrome | 4 | level, address, address // PAGE << 4


def fault_level(state: State, vm: Word, ipa: int) -> int | None:
    """The level at which a walk of the VM's tables ends; None if it ends at a page or block."""
    table = state.vm_word(vm, VmWord.ROOT)
    for level in (1, 2, 3):
        entry = state.ram[stage2.word(table, stage2.index(ipa, level))]
        if not stage2.is_valid(entry):
            return level
        if level < 3 and stage2.is_table(entry):
            table = stage2.target(state.config, entry)
        else:
            return None
    return None
