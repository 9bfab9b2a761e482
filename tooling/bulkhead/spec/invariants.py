"""What holds in every reachable state, said about one key and its neighbours.

Each invariant is a function of a state and a key, so that a proof needs it only at the keys that are
touched, and an oracle can check it at every key. Records and table entries name each other: neither can
be wrong alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import stage2
from .calls.frames import host_table_of
from .state import (
    CPUS_MAX,
    HOST,
    RAM_RANGES,
    VCPUS_MAX,
    VM_SLOTS,
    Config,
    CpuWord,
    Kind,
    Record,
    Run,
    Shared,
    State,
    VmState,
    VmWord,
)
from .words import Truth, Word, all_of, any_of, at_most, below, choose, implies, minus, negate, shift_right

FRAMES_MAX = 1 << 28
PHYSICAL_END = 1 << 46


def config(config_: Config) -> Truth:
    """Frames start on a GiB, fill whole blocks, and fit the engine's windows."""
    return all_of(
        config_.ram_base & ((1 << 30) - 1) == 0,
        config_.frames & (stage2.TABLE_ENTRIES - 1) == 0,
        at_most(config_.frames, FRAMES_MAX),
        at_most(config_.ram_base, PHYSICAL_END),
        at_most(config_.frames << stage2.FRAME_SHIFT, minus(PHYSICAL_END, config_.ram_base)),
    )


def is_block(state: State, block_: Word) -> Truth:
    """The block exists."""
    return below(block_, shift_right(state.config.frames, stage2.TABLE_SHIFT))


def is_split(state: State, frame: Word) -> Truth:
    """The frame exists and has a record of its own."""
    in_split = state.block[shift_right(frame, stage2.TABLE_SHIFT)].kind == Kind.SPLIT
    return all_of(below(frame, state.config.frames), in_split)


def is_record(state: State, frame: Word, record: Record) -> Truth:
    """The frame exists, and its record is this one."""
    return all_of(is_split(state, frame), state.frame[frame].equals(record))


def is_vm(state: State, vm: Word) -> Truth:
    """The slot holds a VM."""
    return all_of(below(vm, VM_SLOTS), negate(state.vm_word(vm, VmWord.STATE) == VmState.FREE))


def block(state: State, block_: Word) -> Truth:
    """The level 2 entries of the host and of its devices agree with the record of a block; a split block has its
    table, a block of a VM its entry.
    """
    record, entry, dma = state.block[block_], state.host_entry[block_], state.dma_entry[block_]
    leaf = stage2.block(state.config, block_)
    table = stage2.target(state.config, entry)
    split = all_of(
        is_record(state, table, Record(Kind.HOST_TABLE, parent=block_)),
        entry == stage2.table(state.config, table),
    )
    of_a_vm = all_of(
        record.kind == Kind.VM_PAGE,
        record.level == 0,
        record.shared == Shared.PRIVATE,
        is_vm(state, record.vm),
        is_table(state, record.parent, record.vm, 2),
        state.ram[stage2.word(record.parent, record.slot)] == leaf,
    )
    holds = any_of(
        all_of(record.equals(Record(Kind.ENGINE)), entry == 0, dma == 0),
        all_of(record.equals(HOST), entry == leaf, dma == 0),
        all_of(record.equals(Record(Kind.UNCLEARED)), entry == 0, dma == 0),
        all_of(record.equals(Record(Kind.DMA)), entry == leaf, dma == leaf),
        all_of(of_a_vm, entry == 0, dma == 0),
        all_of(record.equals(Record(Kind.SPLIT)), split, dma == 0),
    )
    return implies(is_block(state, block_), holds)


def premise(state: State, step: str, arguments: Mapping[str, Word]) -> Truth:
    """What is known when a step begins: the caller is a VM, a block that is touched exists."""
    if step == "first_touch":
        return is_block(state, arguments["block"])
    return is_vm(state, arguments["vm"])


def is_table(state: State, frame: Word, vm: Word, level: Word) -> Truth:
    """The frame is a translation table of that VM and level."""
    record = state.frame[frame]
    return all_of(
        is_split(state, frame), record.kind == Kind.VM_TABLE, record.vm == vm, record.level == level
    )


def frame(state: State, frame_: Word) -> Truth:
    """A record of a split block: what it says about VM, parent table and host mapping is so."""
    record = state.frame[frame_]
    kind, level, vm, slot, parent, shared = record
    named = state.ram[stage2.word(parent, slot)]
    page = all_of(
        level == 0,
        at_most(shared, Shared.ACCEPTED),
        is_vm(state, vm),
        is_table(state, parent, vm, 3),
        named == stage2.page(state.config, frame_),
    )
    root = all_of(level == 1, slot == 0, parent == 0, state.vm_word(vm, VmWord.ROOT) == frame_)
    lower = all_of(
        any_of(level == 2, level == 3),
        is_table(state, parent, vm, minus(level, 1)),
        named == stage2.table(state.config, frame_),
    )
    vcpu = all_of(
        level == 0,
        is_vm(state, vm),
        below(slot, VCPUS_MAX),
        state.vm_word(vm, VmWord.VCPU + (slot & (VCPUS_MAX - 1))) == frame_ + 1,
    )
    host_table = all_of(
        level == 0,
        vm == 0,
        slot == 0,
        is_block(state, parent),
        state.block[parent].kind == Kind.SPLIT,
        state.host_entry[parent] == stage2.table(state.config, frame_),
    )
    holds = any_of(
        record.equals(Record(Kind.ENGINE)),
        record.equals(HOST),
        all_of(kind == Kind.VM_PAGE, page),
        all_of(kind == Kind.VM_TABLE, shared == 0, is_vm(state, vm), any_of(root, lower)),
        all_of(kind == Kind.VCPU, shared == 0, vcpu),
        all_of(kind == Kind.HOST_TABLE, shared == 0, host_table),
    )
    return implies(is_split(state, frame_), holds)


def host_leaf(state: State, frame_: Word) -> Truth:
    """The host's table maps a frame of a split block exactly if the record says HOST, or a page that a VM shares and
    the host has accepted.
    """
    table = host_table_of(state, frame_)
    leaf = state.ram[stage2.word(table, frame_ & (stage2.TABLE_ENTRIES - 1))]
    record = state.frame[frame_]
    accepted = all_of(record.kind == Kind.VM_PAGE, record.shared == Shared.ACCEPTED)
    reached = any_of(record.kind == Kind.HOST, accepted)
    expected = choose(reached, stage2.page(state.config, frame_), 0)
    return implies(is_split(state, frame_), leaf == expected)


def entry(state: State, word: Word) -> Truth:
    """An entry of a VM's table is zero, or names a frame or a block whose record names the entry."""
    table, slot = shift_right(word, stage2.TABLE_SHIFT), word & (stage2.TABLE_ENTRIES - 1)
    descriptor, record = state.ram[word], state.frame[table]
    child = stage2.target(state.config, descriptor)
    whole = shift_right(child, stage2.TABLE_SHIFT)
    mine = Record(Kind.VM_PAGE, vm=record.vm, slot=slot, parent=table)
    page = all_of(
        record.level == 3,
        descriptor == stage2.page(state.config, child),
        is_record(state, child, mine._replace(shared=state.frame[child].shared)),
    )
    block_ = all_of(
        record.level == 2,
        descriptor == stage2.block(state.config, whole),
        is_block(state, whole),
        state.block[whole].equals(mine),
    )
    lower = Record(Kind.VM_TABLE, level=record.level + 1, vm=record.vm, slot=slot, parent=table)
    next_table = all_of(
        below(record.level, 3),
        descriptor == stage2.table(state.config, child),
        is_record(state, child, lower),
    )
    is_entry = all_of(is_split(state, table), record.kind == Kind.VM_TABLE)
    return implies(is_entry, any_of(descriptor == 0, page, block_, next_table))


def vm(state: State, slot: Word) -> Truth:
    """A VM has its root table, a sensible number of vCPUs and RAM ranges that end below 2**39."""
    life = state.vm_word(slot, VmWord.STATE)
    root = state.vm_word(slot, VmWord.ROOT)
    count = state.vm_word(slot, VmWord.VCPU_COUNT)
    ranges = [
        all_of(
            at_most(state.vm_word(slot, VmWord.RAM + 2 * number), 1 << stage2.IPA_BITS),
            at_most(
                state.vm_word(slot, VmWord.RAM + 2 * number + 1),
                minus(1 << stage2.IPA_BITS, state.vm_word(slot, VmWord.RAM + 2 * number)),
            ),
        )
        for number in range(RAM_RANGES)
    ]
    alive = all_of(
        is_record(state, root, Record(Kind.VM_TABLE, level=1, vm=slot)),
        at_most(1, count),
        at_most(count, VCPUS_MAX),
        *ranges,
    )
    known = any_of(*(life == value for value in VmState))
    return implies(below(slot, VM_SLOTS), all_of(known, implies(negate(life == VmState.FREE), alive)))


def vm_word(state: State, key: Word) -> Truth:
    """A free slot is all zero; a vCPU word is zero or names the frame whose record names it."""
    slot, position = shift_right(key, 6), key & (VmWord.COUNT - 1)
    value = state.vm[key]
    index = minus(position, VmWord.VCPU)
    context = minus(value, 1)
    record = state.frame[context]
    named = all_of(
        is_split(state, context), record.kind == Kind.VCPU, record.vm == slot, record.slot == index
    )
    free = state.vm_word(slot, VmWord.STATE) == VmState.FREE
    is_vcpu = all_of(at_most(VmWord.VCPU, position), below(position, VmWord.VCPU + VCPUS_MAX))
    count = state.vm_word(slot, VmWord.VCPU_COUNT)
    return implies(
        below(slot, VM_SLOTS),
        all_of(
            implies(free, value == 0),
            implies(all_of(is_vcpu, negate(value == 0)), all_of(named, below(index, count))),
        ),
    )


def cpu(state: State, key: Word) -> Truth:
    """The vCPU that a CPU has loaded says so in its record."""
    number, word = shift_right(key, 1), key & 1
    frame_ = minus(state.cpu[key], 1)
    record = state.frame[frame_]
    here = all_of(is_split(state, frame_), record.kind == Kind.VCPU, record.parent == Run.LOADED | number)
    return implies(all_of(word == 0, negate(state.cpu[key] == 0)), here)


def loaded_vcpu(state: State, frame_: Word) -> Truth:
    """A vCPU that is loaded is loaded where its record says."""
    record = state.frame[frame_]
    number = record.parent & Run.LOADED - 1
    is_loaded = all_of(
        record.parent == Run.LOADED | number,
        below(number, CPUS_MAX),
        state.cpu_word(number, CpuWord.LOADED) == frame_ + 1,
    )
    is_vcpu = all_of(is_split(state, frame_), record.kind == Kind.VCPU)
    others = (record.parent == run for run in (Run.OFF, Run.RUNNABLE, Run.TRANSIT))
    return implies(is_vcpu, any_of(is_loaded, *others))


Invariant = Callable[[State, Word], Truth]
OF_VCPUS: dict[str, tuple[tuple[str, Invariant], ...]] = {
    "cpu": (("cpu", cpu),),
    "frame": (("loaded_vcpu", loaded_vcpu),),
}
"""The same for vCPUs and CPUs, which no call that changes ownership changes: tested, not proved."""
BY_MAP: dict[str, tuple[tuple[str, Invariant], ...]] = {
    "block": (("block", block),),
    "frame": (("frame", frame), ("host_leaf", host_leaf)),
    "ram": (("entry", entry),),
    "host_entry": (("block", block),),
    "dma_entry": (("block", block),),
    "vm": (("vm_word", vm_word), ("vm", lambda state, key: vm(state, shift_right(key, 6)))),
}
"""Map of the state → invariants about one of its keys, with their names."""
INVARIANTS: dict[str, Invariant] = {
    name: function for entries in BY_MAP.values() for name, function in entries
}
