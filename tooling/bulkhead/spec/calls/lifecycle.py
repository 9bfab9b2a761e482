"""The life of a VM: `vm_create`, `activate`, `vm_kill` and `vm_destroy`."""

from __future__ import annotations

from .. import stage2
from ..events import InvalidateVm, ReadCounter
from ..state import VCPUS_MAX, Kind, Record, Run, VmState, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, any_of, at_most, below, choose, implies, minus, negate, plus
from . import frames

MEASURE_CREATE, MEASURE_RANGE = 1, 2
LIMIT = 1 << stage2.IPA_BITS
FIRST_RANGE_REGISTER = 5


def vm_create(
    t: Transaction,
    vm: Word,
    root: Word,
    vcpus: Word,
    flags: Word,
    ram0_base: Word,
    ram0_size: Word,
    ram1_base: Word,
    ram1_size: Word,
    ram2_base: Word,
    ram2_size: Word,
    ram3_base: Word,
    ram3_size: Word,
) -> None:
    """A free slot becomes a VM in BUILDING with a level 1 table and declared RAM."""
    ranges = (
        (ram0_base, ram0_size),
        (ram1_base, ram1_size),
        (ram2_base, ram2_size),
        (ram3_base, ram3_size),
    )
    frames.need_slot(t, vm, 1)
    t.need(t.before.vm_word(vm, VmWord.STATE) == VmState.FREE, "ALREADY_MAPPED")
    t.need(all_of(at_most(1, vcpus), at_most(vcpus, VCPUS_MAX)), "INVALID_ARGUMENT", 3)
    t.need(flags == 0, "INVALID_ARGUMENT", 4)
    need_ranges(t, ranges)
    frame = frames.need_host_frame(t, root, 2)

    frames.withdraw_from_host(t, frame)
    t.zero_frame(frame)
    t.set_record(frame, Record(Kind.VM_TABLE, level=1, vm=vm))
    t.set_vm(vm, VmWord.ROOT, frame)
    t.set_vm(vm, VmWord.VCPU_COUNT, vcpus)
    t.set_vm(vm, VmWord.FLAGS, flags)
    t.measure(vm, (MEASURE_CREATE, vcpus, flags, 0), None, VmWord.MEASUREMENT)
    for number, (base, size) in enumerate(ranges):
        t.set_vm(vm, VmWord.RAM + 2 * number, base)
        t.set_vm(vm, VmWord.RAM + 2 * number + 1, size)
        t.measure(vm, (MEASURE_RANGE, base, size, number), None, VmWord.MEASUREMENT)
    t.set_vm(vm, VmWord.STATE, VmState.BUILDING)


def need_ranges(t: Transaction, ranges: tuple[tuple[Word, Word], ...]) -> None:
    """Ranges are page-aligned, end below 2**39 and ascend; the first is not empty, unused ones are zero."""
    t.need(negate(ranges[0][1] == 0), "INVALID_ARGUMENT", FIRST_RANGE_REGISTER + 1)
    floor: Word = 0
    for number, (base, size) in enumerate(ranges):
        unused = size == 0
        fits_base = all_of(base & 0xFFF == 0, at_most(floor, base), below(base, LIMIT))
        t.need(
            any_of(all_of(unused, base == 0), all_of(negate(unused), fits_base)),
            "INVALID_ARGUMENT",
            FIRST_RANGE_REGISTER + 2 * number,
        )
        fits_size = all_of(size & 0xFFF == 0, at_most(size, minus(LIMIT, base)))
        t.need(any_of(unused, fits_size), "INVALID_ARGUMENT", FIRST_RANGE_REGISTER + 2 * number + 1)
        floor = choose(unused, floor, plus(base, size))


def activate(t: Transaction, vm: Word) -> None:
    """The measurement is sealed and the VM may run; all vCPUs exist, vCPU 0 has its entry."""
    frames.need_slot(t, vm, 1)
    t.need(t.before.vm_word(vm, VmWord.STATE) == VmState.BUILDING, "BAD_STATE")
    count = t.before.vm_word(vm, VmWord.VCPU_COUNT)
    for index in range(VCPUS_MAX):
        exists = negate(t.before.vm_word(vm, VmWord.VCPU + index) == 0)
        t.need(implies(below(index, count), exists), "BAD_STATE")
    first = minus(t.before.vm_word(vm, VmWord.VCPU), 1)
    t.need(t.before.frame[first].parent == Run.RUNNABLE, "BAD_STATE")

    t.emit(ReadCounter())
    t.set_vm(vm, VmWord.COUNTER_OFFSET, t.before.counter)
    t.set_vm(vm, VmWord.STATE, VmState.ACTIVE)
    t.results = tuple(t.before.vm_word(vm, VmWord.MEASUREMENT + position) for position in range(4))


def vm_kill(t: Transaction, vm: Word) -> None:
    """The VM runs no more; its frames can be reclaimed."""
    frames.need_slot(t, vm, 1)
    frames.need_vm_alive(t, vm)

    t.set_vm(vm, VmWord.STATE, VmState.DYING)


def vm_destroy(t: Transaction, vm: Word) -> None:
    """The root table of a VM with nothing left goes back to the host, zeroed; the slot is free."""
    frames.need_slot(t, vm, 1)
    t.need(t.before.vm_word(vm, VmWord.STATE) == VmState.DYING, "BAD_STATE")
    root = t.before.vm_word(vm, VmWord.ROOT)
    for index in range(VCPUS_MAX):
        t.need(t.before.vm_word(vm, VmWord.VCPU + index) == 0, "NOT_EMPTY")
    t.need(t.before.is_empty(root), "NOT_EMPTY")

    t.emit(InvalidateVm(vm))
    frames.return_to_host(t, root)
    t.after.vm.fill_same(vm << 6, VmWord.COUNT, 0, True)
