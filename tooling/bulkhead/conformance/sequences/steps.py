"""One step of a machine as data: what generators propose, runners carry out and regression files keep.

Trust label: TOOL. To add a kind of step: a function that proposes its arguments (`propose`), one that carries it out
(`CARRY_OUT`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.sequences import vcpu_steps
from bulkhead.conformance.testing.machine import describe
from bulkhead.errors import MachineError
from bulkhead.spec import CALLS, STEPS, Outcome, State
from bulkhead.spec.state import VM_SLOTS, Kind, Run, VmState, VmWord
from bulkhead.spec.words import minus

VM_CALLS = ("share", "unshare", "relinquish")
WRITE, FIRST_TOUCH = "write", "first_touch"
RUNS = ("vcpu_run", "vcpu_put")


@dataclass(frozen=True)
class Step:
    """A call of the host or of a VM, or another thing that happens to a machine, with its arguments by name; addresses
    are physical. `locked`: while another CPU holds the ownership lock.
    """

    name: str
    arguments: dict[str, int] = field(default_factory=dict)
    cpu: int = 0
    locked: bool = False

    def __str__(self) -> str:
        return describe(self.name, self.arguments, self.cpu) + (
            " while the lock is taken" if self.locked else ""
        )


def carry_out(oracle: Oracle, step: Step) -> None:
    """The machine takes a step, and the specification with it; AssertionError says what differs, or how the machine
    ended. A step that cannot happen is left out.
    """
    __tracebackhide__ = True
    try:
        if step.name in vcpu_steps.ALL and isinstance(oracle, VcpuOracle):
            vcpu_steps.carry_out(oracle, step.name, step.cpu, step.arguments, locked=step.locked)
        elif step.locked:
            oracle.refused_while_locked(step.name, cpu=step.cpu, **step.arguments)
        else:
            CARRY_OUT[step.name](oracle, step)
    except MachineError as error:
        raise AssertionError(f"{step}\n  {error}") from error


def specified(ghost: Ghost, step: Step) -> Outcome | None:
    """What the specification says of a step in the present state; None if it does not describe it, or if the step
    cannot happen: a call of a VM that does not run, a touch of a block that does not exist.
    """
    state, arguments = ghost.state, step.arguments
    if step.name in CALLS:
        return CALLS[step.name](state, **arguments)
    if step.name in VM_CALLS and can_call(state, arguments["vm"]):
        return STEPS[step.name](state, **arguments)
    if (
        step.name == FIRST_TOUCH
        and ghost.machine.layout.ram_base <= arguments["block"] < ghost.machine.layout.end
    ):
        return STEPS[FIRST_TOUCH](state, block=(arguments["block"] - ghost.machine.layout.ram_base) // BLOCK)
    return None


def can_call(state: State, vm: int) -> bool:
    """Whether vCPU 0 of a VM may be running: the VM is ACTIVE, or was when the vCPU was loaded, and has been killed."""
    if vm >= VM_SLOTS or not state.vm_word(vm, VmWord.VCPU):
        return False
    run = state.frame[minus(state.vm_word(vm, VmWord.VCPU), 1)].parent
    return bool(state.vm_word(vm, VmWord.STATE) == VmState.ACTIVE or run not in (Run.OFF, Run.RUNNABLE))


def _call(oracle: Oracle, step: Step) -> None:
    __tracebackhide__ = True
    oracle.step(step.name, cpu=step.cpu, **step.arguments)


def _vm_call(oracle: Oracle, step: Step) -> None:
    __tracebackhide__ = True
    if specified(oracle.ghost, step) is not None:
        oracle.vm_step(step.name, *step.arguments.values(), cpu=step.cpu)


def _run(oracle: Oracle, step: Step) -> None:
    __tracebackhide__ = True
    oracle.run(step.name, cpu=step.cpu, **step.arguments)


def _first_touch(oracle: Oracle, step: Step) -> None:
    __tracebackhide__ = True
    if specified(oracle.ghost, step) is not None:
        oracle.first_touch(step.arguments["block"], cpu=step.cpu)


def _write(oracle: Oracle, step: Step) -> None:
    """Whoever has the page at `frame`, host or VM, fills it with something that `seed` determines."""
    state = oracle.ghost.state
    frame = (step.arguments["frame"] - oracle.machine.layout.ram_base) // PAGE
    record = state.block[frame // FRAMES_IN_BLOCK]
    if record.kind == Kind.SPLIT:
        record = state.frame[frame]
    if record.kind in (Kind.HOST, Kind.VM_PAGE, Kind.DMA):
        oracle.ghost.write(step.arguments["frame"], Random(step.arguments["seed"]).randbytes(PAGE))


CARRY_OUT: dict[str, Callable[[Oracle, Step], None]] = {
    **dict.fromkeys(CALLS, _call),
    **dict.fromkeys(VM_CALLS, _vm_call),
    **dict.fromkeys(RUNS, _run),
    FIRST_TOUCH: _first_touch,
    WRITE: _write,
}
"""Name of a step → how it is carried out."""
