"""vCPUs: `vcpu_create` and `vcpu_set_entry`."""

from __future__ import annotations

from .. import stage2
from ..events import ResetContext
from ..state import Kind, Record, Run, VmState, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, below
from . import frames

MEASURE_VCPU, MEASURE_ENTRY = 4, 5


def vcpu_create(t: Transaction, vm: Word, index: Word, frame: Word) -> None:
    """A host frame becomes the context of vCPU `index`, which is off."""
    frames.need_slot(t, vm, 1)
    t.need(t.before.vm_word(vm, VmWord.STATE) == VmState.BUILDING, "BAD_STATE")
    t.need(below(index, t.before.vm_word(vm, VmWord.VCPU_COUNT)), "INVALID_ARGUMENT", 2)
    t.need(t.before.vm_word(vm, VmWord.VCPU + index) == 0, "ALREADY_MAPPED")
    context = frames.need_host_frame(t, frame, 3)

    frames.withdraw_from_host(t, context)
    t.zero_frame(context)
    t.measure(vm, (MEASURE_VCPU, index, 0, 0), None, VmWord.MEASUREMENT)
    t.set_record(context, Record(Kind.VCPU, vm=vm, slot=index, parent=Run.OFF))
    t.set_vm(vm, VmWord.VCPU + index, context + 1)


def vcpu_set_entry(t: Transaction, vcpu: Word, entry: Word, context: Word) -> None:
    """vCPU 0 starts at `entry` at EL1h, MMU off, with `context` in x0."""
    frame, record = frames.need_split_frame(t, vcpu, 1)
    t.need(record.kind == Kind.VCPU, "NOT_OWNED", 1)
    t.need(record.slot == 0, "INVALID_ARGUMENT", 1)
    t.need(all_of(entry & 3 == 0, below(entry, 1 << stage2.IPA_BITS)), "INVALID_ARGUMENT", 2)
    building = t.before.vm_word(record.vm, VmWord.STATE) == VmState.BUILDING
    t.need(all_of(building, record.parent == Run.OFF), "BAD_STATE")

    t.emit(ResetContext(frame, entry, context))
    t.measure(record.vm, (MEASURE_ENTRY, entry, context, 0), None, VmWord.MEASUREMENT)
    t.set_record(frame, record._replace(parent=Run.RUNNABLE))
