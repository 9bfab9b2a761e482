"""Whole blocks, 2 MiB at once: `map_block`, `vm_split`, `reclaim_block`, and the host's first touch."""

from __future__ import annotations

from .. import stage2
from ..events import FillVmRecords, InvalidateInstructions, InvalidateVmPage, Publish
from ..state import Kind, Record, VmState, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, any_of, below, negate, plus
from . import frames


def map_block(t: Transaction, vm: Word, ipa: Word, block: Word) -> None:
    """A whole block of the host becomes the VM's at `ipa`, zeroed. It may be one that nobody has touched yet."""
    frames.need_slot(t, vm, 1)
    frames.need_vm_alive(t, vm)
    is_block_address = all_of(ipa & (stage2.BLOCK_SIZE - 1) == 0, below(ipa, 1 << stage2.IPA_BITS))
    t.need(is_block_address, "INVALID_ARGUMENT", 2)
    t.need(frames.in_ram(t, vm, ipa, plus(ipa, stage2.BLOCK_SIZE - 1)), "INVALID_ARGUMENT", 2)
    number = frames.need_block(t, block, 3)
    kind = t.before.block[number].kind
    t.need(any_of(kind == Kind.HOST, kind == Kind.UNCLEARED), "NOT_OWNED", 3)
    level2 = frames.need_next_table(t, t.before.vm_word(vm, VmWord.ROOT), ipa, 1)
    slot = stage2.index(ipa, 2)
    frames.need_free_entry(t, level2, slot)

    frames.withdraw_block_from_host(t, number)
    t.zero_block(number)
    t.emit(InvalidateInstructions())
    t.set_block(number, Record(Kind.VM_PAGE, vm=vm, slot=slot, parent=level2))
    t.set_entry(level2, slot, stage2.block(t.before.config, number))
    t.emit(Publish())


def vm_split(t: Transaction, block: Word, table: Word, host_table: Word) -> None:
    """A block of a VM becomes 512 pages, so that they can be shared or given back one by one."""
    config = t.before.config
    number = frames.need_block(t, block, 1)
    record = t.before.block[number]
    t.need(record.kind == Kind.VM_PAGE, "NOT_OWNED", 1)
    frames.need_vm_alive(t, record.vm)
    level3 = frames.need_host_frame(t, table, 2)
    host_level3 = frames.need_host_frame(t, host_table, 3)
    t.need(negate(level3 == host_level3), "INVALID_ARGUMENT", 3)

    frames.withdraw_from_host(t, level3)
    frames.withdraw_from_host(t, host_level3)
    t.fill_table(level3, number)
    t.set_record(level3, Record(Kind.VM_TABLE, level=3, vm=record.vm, slot=record.slot, parent=record.parent))
    t.zero_frame(host_level3)
    t.set_record(host_level3, Record(Kind.HOST_TABLE, parent=number))
    page = Record(Kind.VM_PAGE, vm=record.vm, parent=level3)
    t.fill_records(number, lambda offset: page._replace(slot=offset), FillVmRecords(number))
    # Break before make, as in host_split; the VM retries what faults meanwhile.
    t.set_entry(record.parent, record.slot, 0)
    t.emit(InvalidateVmPage(record.vm, frames.ipa_of_block(t, record)))
    t.set_entry(record.parent, record.slot, stage2.table(config, level3))
    t.set_host_entry(number, stage2.table(config, host_level3))
    t.set_block(number, Record(Kind.SPLIT))
    t.emit(Publish())


def reclaim_block(t: Transaction, block: Word) -> None:
    """A whole block of a dying VM goes back to the host, zeroed."""
    number = frames.need_block(t, block, 1)
    record = t.before.block[number]
    t.need(record.kind == Kind.VM_PAGE, "NOT_OWNED", 1)
    t.need(t.before.vm_word(record.vm, VmWord.STATE) == VmState.DYING, "BAD_STATE")

    t.set_entry(record.parent, record.slot, 0)
    t.emit(InvalidateVmPage(record.vm, frames.ipa_of_block(t, record)))
    frames.return_block_to_host(t, number)


def first_touch(t: Transaction, block: Word) -> None:
    """The host's access to a block that nobody has touched since boot: it is zeroed, and the host's to use.

    Not a call: the engine takes this step when the host's stage 2 faults. The host then repeats its instruction,
    whatever the answer.
    """
    t.need(t.before.block[block].kind == Kind.UNCLEARED, "NOT_OWNED", 1)

    frames.return_block_to_host(t, block)
