"""Conditions and changes that several calls share."""

from __future__ import annotations

from .. import stage2
from ..events import InvalidateHostPage, InvalidateInstructions, Publish
from ..state import HOST, VM_SLOTS, Kind, Record, State, VmState, VmWord
from ..transaction import Transaction
from ..words import Truth, Word, all_of, any_of, below, minus, negate, shift_right


def need_slot(t: Transaction, vm: Word, register: int) -> None:
    """`vm` is the number of a VM slot."""
    t.need(below(vm, VM_SLOTS), "INVALID_ARGUMENT", register)


def need_ipa(t: Transaction, ipa: Word, register: int) -> None:
    """`ipa` is the address of a page below 2**39."""
    t.need(is_page_address(ipa), "INVALID_ARGUMENT", register)


def is_page_address(ipa: Word) -> Truth:
    """A multiple of 4 KiB below 2**39."""
    return all_of(ipa & (stage2.FRAME_SIZE - 1) == 0, below(ipa, 1 << stage2.IPA_BITS))


def need_frame(t: Transaction, address: Word, register: int) -> Word:
    """`address` is that of a frame, whose index is the result."""
    config = t.before.config
    frame = shift_right(minus(address, config.ram_base), stage2.FRAME_SHIFT)
    t.need(
        all_of(address & (stage2.FRAME_SIZE - 1) == 0, below(frame, config.frames)),
        "INVALID_ARGUMENT",
        register,
    )
    return frame


def need_split_frame(t: Transaction, address: Word, register: int) -> tuple[Word, Record]:
    """`address` is that of a frame in a split block; the result is the frame and its record."""
    frame = need_frame(t, address, register)
    kind = t.before.block[shift_right(frame, stage2.TABLE_SHIFT)].kind
    t.need(negate(kind == Kind.HOST), "NEEDS_SPLIT", register)
    t.need(negate(kind == Kind.UNCLEARED), "NOT_CLEARED", register)
    t.need(kind == Kind.SPLIT, "NOT_OWNED", register)
    return frame, t.before.frame[frame]


def need_host_frame(t: Transaction, address: Word, register: int) -> Word:
    """`address` is that of a frame that the host owns and may give away."""
    frame, record = need_split_frame(t, address, register)
    t.need(record.equals(HOST), "NOT_OWNED", register)
    return frame


def need_block(t: Transaction, address: Word, register: int) -> Word:
    """`address` is that of a block, whose number is the result."""
    offset = minus(address, t.before.config.ram_base)
    t.need(
        all_of(
            address & (stage2.BLOCK_SIZE - 1) == 0,
            below(shift_right(offset, stage2.FRAME_SHIFT), t.before.config.frames),
        ),
        "INVALID_ARGUMENT",
        register,
    )
    return shift_right(offset, stage2.FRAME_SHIFT + stage2.TABLE_SHIFT)


def need_cleared_host_block(t: Transaction, block: Word, register: int) -> None:
    """The block is the host's as a whole, and not a DMA window."""
    kind = t.before.block[block].kind
    t.need(negate(kind == Kind.UNCLEARED), "NOT_CLEARED", register)
    t.need(kind == Kind.HOST, "NOT_OWNED", register)


def need_vm_alive(t: Transaction, vm: Word) -> Word:
    """The VM is BUILDING or ACTIVE; the result is its state."""
    state = t.before.vm_word(vm, VmWord.STATE)
    t.need(any_of(state == VmState.BUILDING, state == VmState.ACTIVE), "BAD_STATE")
    return state


def need_next_table(t: Transaction, table: Word, ipa: Word, level: int) -> Word:
    """The entry for `ipa` in the VM's `table` of `level` names a table, which is the result."""
    entry = t.before.ram[stage2.word(table, stage2.index(ipa, level))]
    t.need(stage2.is_valid(entry), "TABLE_MISSING", level + 1)
    return stage2.target(t.before.config, entry)


def need_level3(t: Transaction, vm: Word, ipa: Word) -> Word:
    """The VM's level 3 table for `ipa`; a block that is mapped there is in the way."""
    level2 = need_next_table(t, t.before.vm_word(vm, VmWord.ROOT), ipa, 1)
    level3 = need_next_table(t, level2, ipa, 2)
    t.need(stage2.is_table(t.before.ram[stage2.word(level2, stage2.index(ipa, 2))]), "ALREADY_MAPPED")
    return level3


def need_free_entry(t: Transaction, table: Word, index: Word) -> None:
    """The entry of the table is not in use."""
    t.need(negate(stage2.is_valid(t.before.ram[stage2.word(table, index)])), "ALREADY_MAPPED")


def in_ram(t: Transaction, vm: Word, *addresses: Word) -> Truth:
    """The addresses lie in one of the RAM ranges that the VM was created with, all in the same.

    Modulo 2**64 an address below a range lies far behind it: ranges are no larger than 2**39 bytes.
    """
    return in_ram_of(t.before, vm, *addresses)


def in_ram_of(state: State, vm: Word, *addresses: Word) -> Truth:
    """See `in_ram`."""
    ranges = []
    for number in range(4):
        base = state.vm_word(vm, VmWord.RAM + 2 * number)
        size = state.vm_word(vm, VmWord.RAM + 2 * number + 1)
        ranges.append(all_of(*(below(minus(address, base), size) for address in addresses)))
    return any_of(*ranges)


def ipa_of(t: Transaction, page: Record) -> Word:
    """Where a VM sees a page: the slots on the way from the root."""
    level3 = t.before.frame[page.parent]
    level2 = t.before.frame[level3.parent]
    return level2.slot << 30 | level3.slot << 21 | page.slot << 12


def ipa_of_block(t: Transaction, block: Record) -> Word:
    """Where a VM sees a whole block."""
    return t.before.frame[block.parent].slot << 30 | block.slot << 21


def host_table_of(state: State, frame: Word) -> Word:
    """The host's level 3 table of the split block that the frame lies in."""
    return stage2.target(state.config, state.host_entry[shift_right(frame, stage2.TABLE_SHIFT)])


def withdraw_from_host(t: Transaction, frame: Word) -> None:
    """The host cannot reach the frame any more, on any CPU."""
    t.set_entry(host_table_of(t.before, frame), frame & (stage2.TABLE_ENTRIES - 1), 0)
    t.emit(InvalidateHostPage(frame))


def withdraw_block_from_host(t: Transaction, block: Word) -> None:
    """The host cannot reach the block any more, on any CPU."""
    t.set_host_entry(block, 0)
    t.emit(InvalidateHostPage(block << stage2.TABLE_SHIFT))


def return_block_to_host(t: Transaction, block: Word) -> None:
    """The block, which nobody can reach, is scrubbed and becomes the host's."""
    t.zero_block(block)
    t.emit(InvalidateInstructions())
    t.set_block(block, HOST)
    t.set_host_entry(block, stage2.block(t.before.config, block))
    t.emit(Publish())


def return_to_host(t: Transaction, frame: Word) -> None:
    """The frame, which nobody can reach any more, is scrubbed and becomes the host's."""
    t.zero_frame(frame)
    t.emit(InvalidateInstructions())
    t.set_record(frame, HOST)
    t.set_entry(
        host_table_of(t.before, frame),
        frame & (stage2.TABLE_ENTRIES - 1),
        stage2.page(t.before.config, frame),
    )
    t.emit(Publish())
