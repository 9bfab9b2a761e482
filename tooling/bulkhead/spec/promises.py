"""What the engine promises, said without any call: what the hardware reaches, and what a step may do to whom.

The walks are those of the architecture (Arm ARM DDI 0487 section D8.2; the SMMU's stage 2 walk is the same, IHI 0070
section 3.3.1), over the words that are in memory. Integrity is P5, secrecy the part of P6 that is about memory, reach
P7 of the isolation model. Frames are counted from the start of RAM; an input address is counted in frames too.

The part of P6 that is about registers is in `declassified`: which words of a vCPU leave by an exit, and what comes in.
"""

from __future__ import annotations

from typing import NamedTuple

from . import stage2
from .state import Kind, Map, Record, Shared, State, VmState, VmWord
from .words import Truth, Word, all_of, any_of, choose, field, implies, negate, shift_right

ENTRY_MASK = stage2.TABLE_ENTRIES - 1


class Reached(NamedTuple):
    """Where a walk ends: whether there is a valid leaf, and the frame that it gives access to."""

    valid: Truth
    frame: Word


def owner(state: State, frame: Word) -> Record:
    """The record that speaks for a frame: that of its block, or its own if the block is split."""
    block, own = state.block[shift_right(frame, stage2.TABLE_SHIFT)], state.frame[frame]
    split = block.kind == Kind.SPLIT
    return Record(*(choose(split, mine, whole) for mine, whole in zip(own, block, strict=True)))


# What the hardware reaches.


def from_level2(state: State, descriptor: Word, page: Word) -> Reached:
    """The walk from a level 2 descriptor; `page` is the input address in frames."""
    offset = page & ENTRY_MASK
    below = stage2.target(state.config, descriptor)
    leaf = state.ram[stage2.word(below, offset)]
    table = stage2.is_table(descriptor)
    valid = any_of(negate(table), leaf & stage2.TABLE == stage2.TABLE)
    block = below & ~ENTRY_MASK & (1 << 52) - 1 | offset
    return Reached(
        all_of(stage2.is_valid(descriptor), valid),
        choose(table, stage2.target(state.config, leaf), block),
    )


def flat_walk(state: State, entries: Map[Word], frame: Word) -> Reached:
    """The walk of the host's stage 2, or of the SMMU's for its devices, for the address of `frame`."""
    return from_level2(state, entries[shift_right(frame, stage2.TABLE_SHIFT)], frame)


def vm_walk(state: State, vm: Word, page: Word) -> Reached:
    """The walk of a VM's stage 2; a leaf at level 1 would be valid to the hardware."""
    root = state.vm_word(vm, VmWord.ROOT)
    level1 = state.ram[stage2.word(root, field(page, 18, stage2.TABLE_SHIFT))]
    table = stage2.target(state.config, level1)
    level2 = state.ram[stage2.word(table, field(page, 9, stage2.TABLE_SHIFT))]
    below = from_level2(state, level2, page)
    return Reached(
        all_of(stage2.is_valid(level1), any_of(negate(stage2.is_table(level1)), below.valid)),
        choose(stage2.is_table(level1), below.frame, table | page & (1 << 18) - 1),
    )


def is_hosts(record: Record) -> Truth:
    """The host may reach the frame: its own, or a page that a VM shares and the host has accepted."""
    accepted = all_of(record.kind == Kind.VM_PAGE, record.shared == Shared.ACCEPTED)
    return any_of(record.kind == Kind.HOST, record.kind == Kind.DMA, accepted)


def is_vms(record: Record, vm: Word) -> Truth:
    """The frame is a page of that VM."""
    return all_of(record.kind == Kind.VM_PAGE, record.vm == vm)


def host_reach(state: State, frame: Word) -> Truth:
    """P7: what the host reaches at the address of a frame is that frame, and the host may."""
    reached = flat_walk(state, state.host_entry, frame)
    return implies(reached.valid, all_of(reached.frame == frame, is_hosts(owner(state, frame))))


def device_reach(state: State, frame: Word) -> Truth:
    """P7: the same for the host's devices, whose frames lie in DMA windows."""
    reached = flat_walk(state, state.dma_entry, frame)
    record = owner(state, frame)
    return implies(reached.valid, all_of(reached.frame == frame, record.kind == Kind.DMA))


def vm_reach(state: State, vm: Word, page: Word) -> Truth:
    """P7: what a VM reaches is a page of its own; by it the page is reached at one address only.

    That two VMs, or a VM and the host, share nothing but accepted pages follows: a frame has one record.
    """
    reached = vm_walk(state, vm, page)
    record = owner(state, reached.frame)
    table = state.frame[record.parent]
    whole = state.block[shift_right(reached.frame, stage2.TABLE_SHIFT)].kind == Kind.VM_PAGE
    block_at = all_of(record.slot == field(page, 9, 9), table.slot == field(page, 18, 9))
    page_at = all_of(
        record.slot == field(page, 0, 9),
        table.slot == field(page, 9, 9),
        state.frame[table.parent].slot == field(page, 18, 9),
    )
    at_one_address = any_of(all_of(whole, block_at), all_of(negate(whole), page_at))
    return implies(reached.valid, all_of(is_vms(record, vm), at_one_address))


# What a step does to others. `word` is any word of RAM.


def integrity(before: State, after: State, word: Word, actor: Word | None) -> Truth:
    """P5: a page of a VM that lives keeps content and owner unless the VM itself acts; `actor` None is the host."""
    frame = shift_right(word, stage2.TABLE_SHIFT)
    was, now = owner(before, frame), owner(after, frame)
    lives = negate(before.vm_word(was.vm, VmWord.STATE) == VmState.DYING)
    another = True if actor is None else negate(was.vm == actor)
    unchanged = all_of(after.ram[word] == before.ram[word], is_vms(now, was.vm))
    return implies(all_of(was.kind == Kind.VM_PAGE, lives, another), unchanged)


def secrecy(before: State, after: State, word: Word) -> Truth:
    """P6: what the host could not reach and now can is zero, or a page that a VM had offered."""
    frame = shift_right(word, stage2.TABLE_SHIFT)
    was, now = owner(before, frame), owner(after, frame)
    offered = all_of(was.kind == Kind.VM_PAGE, was.shared == Shared.OFFERED)
    gained = all_of(is_hosts(now), negate(is_hosts(was)))
    return implies(gained, any_of(after.ram[word] == 0, offered))
