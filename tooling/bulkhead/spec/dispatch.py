"""From registers and syndromes to steps: which definition an HVC or an exception comes to.

Trust label: STATEMENT, tested. These functions run on plain integers; what they lead to runs on terms as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bulkhead import abi

from . import context, stage2
from .calls import tested
from .events import ResetContext
from .state import State
from .syndrome import (
    EC_DATA_ABORT,
    EC_HVC,
    EC_INSTRUCTION_ABORT,
    EC_SMC,
    EC_SYSTEM,
    EC_WFX,
    Syndrome,
)
from .transaction import SUCCESS, Outcome, run
from .vcpu import Decision, Taken, VcpuTransaction, refusal, take
from .words import Word

ABI = abi.load()
REGISTERS = 18


class Named(NamedTuple):
    """A function that somebody may call."""

    name: str
    definition: tested.Definition


def _by_id(caller: str, prefix: str, definitions: Mapping[str, tested.Definition]) -> dict[int, Named]:
    ids = {call.name: call.id for call in ABI.calls if call.caller == caller and not call.reserved}
    ids |= {standard.name: standard.id for standard in ABI.standards}
    return {
        number: Named(prefix + name, definitions[prefix + name])
        for name, number in ids.items()
        if prefix + name in definitions
    }


HOST = _by_id("host", "", {**tested.HOST_CALLS, **tested.POWER, **tested.LOCKED_CALLS})
VM = _by_id("vm", tested.OF_VM, tested.VM_CALLS)
BY_CLASS = {
    EC_WFX: "VM: WFx",
    EC_SMC: "VM: SMC",
    EC_SYSTEM: "VM: system register",
    EC_DATA_ABORT: "VM: data abort",
    EC_INSTRUCTION_ABORT: "VM: instruction abort",
}


@dataclass(frozen=True)
class Called:
    """A call of the host: `registers` are x0 to x17 afterwards, or None where a vCPU has been entered."""

    name: str
    outcome: Outcome
    state: State
    registers: tuple[Word, ...] | None
    entered: Word | None = None
    """The frame of the vCPU that runs now."""


def host_call(state: State, cpu: int, registers: Sequence[Word]) -> Called:
    """HVC #0 by the host."""
    function = registers[0]
    assert isinstance(function, int)
    name, definition = HOST.get(function, Named("unknown", tested.HOST_CALLS["unknown"]))
    t = VcpuTransaction(state)
    arguments = arguments_of(definition, cpu, registers)
    outcome = run(state, lambda _: definition(t, **arguments), lambda _: t)
    if outcome.success is False:
        answer = refusal(name, outcome.needs[-1])
    elif name == "vcpu_run":
        return Called(name, outcome, outcome.state, None, t.vcpu)
    else:
        answer = t.answered or (SUCCESS, *outcome.results)
    return Called(name, outcome, with_contexts(outcome), (*answer, *registers[len(answer) :]))


def arguments_of(definition: tested.Definition, cpu: Word, registers: Sequence[Word]) -> dict[str, Word]:
    """The arguments of a definition: the CPU, and x1, x2, ..."""
    names = tested.parameters(definition)
    arguments: dict[str, Word] = {"cpu": cpu} if "cpu" in names else {}
    return arguments | dict(zip((name for name in names if name != "cpu"), registers[1:], strict=False))


def with_contexts(outcome: Outcome) -> State:
    """The state behind a call, in which a context that was reset has its words: `vcpu_set_entry` is proved without."""
    state = outcome.state
    for event in outcome.happened:
        if isinstance(event, ResetContext):
            record = state.frame[event.frame]
            words = context.reset(state, event.frame, record, event.entry, event.context)
            for number, value in words.items():
                state.ram.set(stage2.word(event.frame, number), value, True)
    return state


def vm_call(state: State, vcpu: Word) -> Taken:
    """HVC #0 by a vCPU, whose program counter is behind the instruction."""
    registers = tuple(state.ram[stage2.word(vcpu, number)] for number in range(REGISTERS))
    function = registers[0]
    assert isinstance(function, int)
    unknown = Named("VM: unknown", tested.VM_CALLS["VM: unknown"])
    name, definition = VM.get(function, unknown)
    arguments = arguments_of(definition, 0, registers)
    return take(name, state, lambda t: definition(t, **arguments), vcpu)


def exception(state: State, vcpu: Word, esr: int, far: int = 0, hpfar: int = 0) -> Taken:
    """A synchronous exception of a vCPU."""
    syndrome = Syndrome(esr, far, hpfar)
    if syndrome.exception_class == EC_HVC:
        return vm_call(state, vcpu)
    name = BY_CLASS.get(esr >> 26 & 0x3F, "VM: other exception")
    return take(name, state, tested.EXCEPTIONS[name], vcpu, syndrome)


def interrupt(state: State, vcpu: Word, intid: Word) -> Taken:
    """A physical interrupt of group 1 while the vCPU ran."""
    return take("VM: interrupt", state, lambda t: tested.INTERRUPTS["VM: interrupt"](t, intid), vcpu)


def fast_interrupt(state: State, vcpu: Word) -> Taken:
    """A physical interrupt of group 0."""
    return take("VM: fast interrupt", state, tested.INTERRUPTS["VM: fast interrupt"], vcpu)


def system_error(state: State, vcpu: Word) -> Taken:
    """An SError interrupt."""
    return take("VM: SError", state, tested.INTERRUPTS["VM: SError"], vcpu)


def exit_registers(
    state: State, vcpu: Word, decision: Decision, lists: tuple[Word, Word, Word], maintenance: Word
) -> tuple[Word, ...]:
    """x0 to x9 of the host when the vCPU exits; `lists` and `maintenance` are what the virtual interface shows then."""
    deadline = context.deadline(state, vcpu)
    return (SUCCESS, decision.exit_class, *decision.data, *lists, maintenance, deadline)
