"""Pages of VMs: `map` and `reclaim`."""

from __future__ import annotations

from .. import stage2
from ..events import CleanFrame, InvalidateInstructions, InvalidateVmPage, Publish
from ..state import Kind, Record, Run, Shared, VmState, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, any_of, negate
from . import frames

ZEROED, MEASURED = 0, 1
MEASURE_PAGE = 3


def map_(t: Transaction, vm: Word, ipa: Word, frame: Word, mode: Word) -> None:
    """A host frame becomes a page of the VM at `ipa`: zeroed, or with its content, which is measured."""
    frames.need_slot(t, vm, 1)
    state = frames.need_vm_alive(t, vm)
    frames.need_ipa(t, ipa, 2)
    t.need(frames.in_ram(t, vm, ipa), "INVALID_ARGUMENT", 2)
    t.need(any_of(mode == ZEROED, mode == MEASURED), "INVALID_ARGUMENT", 4)
    t.need(negate(all_of(mode == MEASURED, negate(state == VmState.BUILDING))), "BAD_STATE")
    page = frames.need_host_frame(t, frame, 3)
    level3 = frames.need_level3(t, vm, ipa)
    slot = stage2.index(ipa, 3)
    frames.need_free_entry(t, level3, slot)

    frames.withdraw_from_host(t, page)
    with t.when(mode == ZEROED, name="zeroed"):
        t.zero_frame(page)
    with t.when(mode == MEASURED, name="measured"):
        t.emit(CleanFrame(page))
        t.measure(vm, (MEASURE_PAGE, ipa, 0, 0), page, VmWord.MEASUREMENT)
    t.emit(InvalidateInstructions())
    t.set_record(page, Record(Kind.VM_PAGE, vm=vm, slot=slot, parent=level3))
    t.set_entry(level3, slot, stage2.page(t.before.config, page))
    t.emit(Publish())


def reclaim(t: Transaction, frame: Word) -> None:
    """A page or an idle vCPU of a dying VM goes back to the host, zeroed."""
    page, record = frames.need_split_frame(t, frame, 1)
    is_page, is_vcpu = record.kind == Kind.VM_PAGE, record.kind == Kind.VCPU
    t.need(any_of(is_page, is_vcpu), "NOT_OWNED", 1)
    t.need(t.before.vm_word(record.vm, VmWord.STATE) == VmState.DYING, "BAD_STATE")
    idle = any_of(record.parent == Run.OFF, record.parent == Run.RUNNABLE)
    t.need(any_of(negate(is_vcpu), idle), "BUSY")

    with t.when(is_page, name="page"):
        t.set_entry(record.parent, record.slot, 0)
        t.emit(InvalidateVmPage(record.vm, frames.ipa_of(t, record)))
        with t.when(record.shared == Shared.ACCEPTED, name="accepted"):
            frames.withdraw_from_host(t, page)
    with t.when(is_vcpu, name="vcpu"):
        t.claim_vcpu(page, Record(Kind.ENGINE))
        t.set_vm(record.vm, VmWord.VCPU + record.slot, 0)
    frames.return_to_host(t, page)
