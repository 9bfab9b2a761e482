"""PSCI 1.1 (Arm DEN 0022) of a VM, which the engine executes and the host schedules around; and of the host, as far as
the engine answers without asking firmware.
"""

from __future__ import annotations

from .. import context, stage2
from ..events import ResetContext
from ..state import VCPUS_MAX, Kind, Record, Run, VmState, VmWord
from ..transaction import SUCCESS
from ..vcpu import Decision, VcpuTransaction
from ..words import Word, all_of, below, choose, minus, negate
from . import running
from .discovery import STANDARD, is_one_of, supported

PSCI_1_1 = 0x1_0001
NO_TRUSTED_OS = 2
"""MIGRATE_INFO_TYPE: a trusted OS is not present or needs no migration (DEN 0022, 5.1.9)."""
ON, OFF, ON_PENDING = range(3)
"""What AFFINITY_INFO answers (DEN 0022, 5.1.6)."""
VM_FUNCTIONS = ("SMCCC_VERSION", *(name for name in STANDARD if name.startswith("PSCI_")))
HOST_FUNCTIONS = tuple(name for name in VM_FUNCTIONS if name != "PSCI_CPU_SUSPEND")
"""What FEATURES says yes to."""


def version(t: VcpuTransaction) -> None:
    """PSCI 1.1."""
    t.answer(PSCI_1_1)


def migrate_info_type(t: VcpuTransaction) -> None:
    """Nothing to migrate."""
    t.answer(NO_TRUSTED_OS)


def vm_features(t: VcpuTransaction, function: Word) -> None:
    """Which functions a VM has; no optional feature of any."""
    t.answer(supported(is_one_of(function, *VM_FUNCTIONS)))


def host_features(t: VcpuTransaction, function: Word) -> None:
    """Which functions the host has."""
    t.answer(supported(is_one_of(function, *HOST_FUNCTIONS)))


def cpu_suspend(t: VcpuTransaction) -> None:
    """A wait for an interrupt: a standby state, so entry point and context do not count."""
    t.answer(SUCCESS)
    t.exit("WFI")


def cpu_off(t: VcpuTransaction) -> None:
    """The vCPU is unloaded and off."""
    running.unload(t, minus(t.owner.parent, Run.LOADED), Run.OFF)
    t.exit("PSCI", Decision.OFF)


def system_off(t: VcpuTransaction) -> None:
    """The VM's own decision, and so is SYSTEM_RESET: nothing of it runs again, whatever the host does."""
    with t.when(t.before.vm_word(t.owner.vm, VmWord.STATE) == VmState.ACTIVE, name="alive"):
        t.set_vm(t.owner.vm, VmWord.STATE, VmState.DYING)
    t.exit("PSCI")


def need_target(t: VcpuTransaction, affinity: Word) -> Word:
    """`affinity` names a vCPU of the VM (Aff0 its index, the rest zero), whose frame is the result."""
    vm = t.owner.vm
    frame = t.before.vm_word(vm, VmWord.VCPU + (affinity & VCPUS_MAX - 1))
    is_vcpu = all_of(
        below(affinity, VCPUS_MAX),
        below(affinity, t.before.vm_word(vm, VmWord.VCPU_COUNT)),
        negate(frame == 0),
    )
    t.need(is_vcpu, "INVALID_PARAMETERS")
    return minus(frame, 1)


def affinity_info(t: VcpuTransaction, affinity: Word, lowest_level: Word) -> None:
    """Whether a vCPU is on."""
    frame = need_target(t, affinity)
    t.need(lowest_level == 0, "INVALID_PARAMETERS")
    state = t.before.frame[frame].parent
    t.answer(choose(state == Run.OFF, OFF, choose(state == Run.TRANSIT, ON_PENDING, ON)))


def cpu_on(t: VcpuTransaction, affinity: Word, entry: Word, argument: Word) -> None:
    """A vCPU that is off starts at `entry` with `argument` in x0; the host learns which one it can run."""
    frame = need_target(t, affinity)
    t.need(all_of(entry & 3 == 0, below(entry, 1 << stage2.IPA_BITS)), "INVALID_ADDRESS")
    off = Record(Kind.VCPU, vm=t.owner.vm, slot=affinity, parent=Run.OFF)
    record = t.before.frame[frame]
    t.need(negate(record.equals(off._replace(parent=Run.TRANSIT))), "ON_PENDING")
    t.need(record.equals(off), "ALREADY_ON")

    t.set_run_state(frame, off, Run.TRANSIT)
    t.zero_frame(frame)
    for number, value in context.reset(t.before, frame, off, entry, argument).items():
        t.set_context(frame, number, value)
    t.emit(ResetContext(frame, entry, argument))
    t.set_run_state(frame, off, Run.RUNNABLE)
    t.answer(SUCCESS)
    t.exit("PSCI")
