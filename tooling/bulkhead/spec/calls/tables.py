"""Translation tables: `host_split`, `table_donate` and `table_reclaim`."""

from __future__ import annotations

from .. import stage2
from ..events import FillFrameRecords, InvalidateVmPage, Publish
from ..state import HOST, Kind, Record, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, any_of, choose, negate
from . import frames


def host_split(t: Transaction, block: Word, table: Word) -> None:
    """The host's 2 MiB block gets a level 3 table, so that its frames can change hands one by one."""
    number = frames.need_block(t, block, 1)
    t.need(negate(t.before.block[number].kind == Kind.SPLIT), "ALREADY_MAPPED")
    frames.need_cleared_host_block(t, number, 1)
    donated = frames.need_host_frame(t, table, 2)

    frames.withdraw_from_host(t, donated)
    t.set_record(donated, Record(Kind.HOST_TABLE, parent=number))
    t.fill_table(donated, number)
    t.fill_records(number, lambda _: HOST, FillFrameRecords(number))
    # Break before make: no CPU may hold block and table in its TLB at once (DDI 0487 section D8.16.1).
    frames.withdraw_block_from_host(t, number)
    t.set_host_entry(number, stage2.table(t.before.config, donated))
    t.set_block(number, Record(Kind.SPLIT))
    t.emit(Publish())


def table_donate(t: Transaction, vm: Word, ipa: Word, level: Word, table: Word) -> None:
    """A host frame becomes the VM's translation table of `level` for `ipa`."""
    frames.need_slot(t, vm, 1)
    frames.need_vm_alive(t, vm)
    frames.need_ipa(t, ipa, 2)
    t.need(any_of(level == 2, level == 3), "INVALID_ARGUMENT", 3)
    donated = frames.need_host_frame(t, table, 4)
    root = t.before.vm_word(vm, VmWord.ROOT)
    is_level3 = level == 3
    with t.when(is_level3, name="level 3"):
        level2 = frames.need_next_table(t, root, ipa, 1)
    parent = choose(is_level3, level2, root)
    slot = choose(is_level3, stage2.index(ipa, 2), stage2.index(ipa, 1))
    frames.need_free_entry(t, parent, slot)

    frames.withdraw_from_host(t, donated)
    t.zero_frame(donated)
    t.set_record(donated, Record(Kind.VM_TABLE, level=level, vm=vm, slot=slot, parent=parent))
    t.set_entry(parent, slot, stage2.table(t.before.config, donated))
    t.emit(Publish())


def table_reclaim(t: Transaction, table: Word) -> None:
    """An empty table of level 2 or 3 goes back to the host, zeroed."""
    frame, record = frames.need_split_frame(t, table, 1)
    t.need(all_of(record.kind == Kind.VM_TABLE, negate(record.level == 1)), "NOT_OWNED", 1)
    t.need(t.before.is_empty(frame), "NOT_EMPTY")

    parent = t.before.frame[record.parent]
    level3_ipa = parent.slot << 30 | record.slot << 21
    ipa = choose(record.level == 2, record.slot << 30, level3_ipa)
    t.set_entry(record.parent, record.slot, 0)
    t.emit(InvalidateVmPage(record.vm, ipa))
    frames.return_to_host(t, frame)
