"""Guests that really share pages: what the host reaches when, with warm TLBs, and on several CPUs."""

from __future__ import annotations

import struct

import pytest

from bulkhead.conformance import HostFault, Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import FrameRecord, Kind
from native.guest import FOREVER, LOADS, RAM, STORES, Guest, access, branch, code, hvc, move, report

pytestmark = [pytest.mark.qemu, pytest.mark.metal]

PAGE_IPA = RAM + PAGE
BLOCK_IPA = RAM + (4 << 20)
SHARE, UNSHARE, RELINQUISH = (ABI.call(name).id for name in ("share", "unshare", "relinquish"))
HOST_CALL = ABI.call("host_call").id
LOAD, STORE = LOADS["ldr x"][0], STORES["str x"][0]
PATTERN = 0x1122_3344_5566_7788
STANDARD = {standard.name: standard.id for standard in ABI.standards}


def number(data: bytes) -> int:
    """A little-endian word."""
    return int(struct.unpack("<Q", data)[0])


def unreachable(machine: Machine, frame: int) -> None:
    """The host program cannot load or store there."""
    with pytest.raises(HostFault):
        machine.backend.memory(frame, 8)
    with pytest.raises(HostFault):
        machine.backend.write(frame, bytes(8))


def test_a_page_from_private_to_shared_and_back(machine: Machine) -> None:
    program = [
        *hvc(SHARE, PAGE_IPA), *report(0),
        *hvc(HOST_CALL), *move(27, PAGE_IPA), access(LOAD, 1, 27), *report(1),
        *move(1, PATTERN), access(STORE, 1, 27), *hvc(HOST_CALL),
        *hvc(UNSHARE, PAGE_IPA), *report(0),
        access(LOAD, 1, 27), *report(1),
    ]  # fmt: skip
    guest = Guest(machine, code(*program))
    slot = guest.vm.slot
    # Nothing is there yet: the host brings the page, and the guest's call is made again.
    assert [guest.run().data, guest.run().data] == [(PAGE_IPA,)] * 2
    frame = guest.vm.page(PAGE_IPA)
    assert (exit_ := guest.run()).name == "SHARE"
    assert exit_.data == (SHARE, PAGE_IPA)
    unreachable(machine, frame)
    assert machine.ok("share_accept", vm=slot, ipa=PAGE_IPA).results["frame"] == frame
    assert guest.reports(1) == [0]
    assert guest.run().name == "HOST_CALL"
    machine.backend.write(frame, struct.pack("<Q", 77))
    assert guest.reports(1) == [77]
    assert guest.run().name == "HOST_CALL"
    assert number(machine.backend.memory(frame, 8)) == PATTERN
    assert (exit_ := guest.run()).data == (UNSHARE, PAGE_IPA)
    unreachable(machine, frame)
    assert guest.reports(2) == [0, PATTERN]
    machine.refuses("share_accept", "BAD_STATE", vm=slot, ipa=PAGE_IPA)


@pytest.mark.raw_memory
def test_relinquish(machine: Machine) -> None:
    program = [
        *move(27, PAGE_IPA), *move(1, PATTERN), access(STORE, 1, 27),
        *hvc(SHARE, PAGE_IPA), *hvc(RELINQUISH, PAGE_IPA), *report(0), access(LOAD, 1, 27), *report(1),
    ]  # fmt: skip
    guest = Guest(machine, code(*program))
    frame = guest.vm.page(PAGE_IPA)
    assert guest.run().name == "SHARE"
    machine.ok("share_accept", vm=guest.vm.slot, ipa=PAGE_IPA)
    assert number(machine.backend.memory(frame, 8)) == PATTERN
    assert (exit_ := guest.run()).data == (RELINQUISH, PAGE_IPA)
    assert exit_.name == "SHARE"
    assert machine.frame_record(frame) == FrameRecord(Kind.HOST)
    assert machine.backend.memory(frame, PAGE) == bytes(PAGE)
    machine.backend.write(frame, b"the host's own again")
    assert guest.reports(1) == [0]
    assert (exit_ := guest.run()).data == (PAGE_IPA,)
    assert exit_.name == "MEM_FAULT"
    machine.ok("map", vm=guest.vm.slot, ipa=PAGE_IPA, frame=machine.take(), mode=0)
    assert guest.reports(1) == [0]


def test_a_page_of_a_block_is_shared_once_the_block_is_cut(machine: Machine) -> None:
    program = [
        *move(27, BLOCK_IPA), *move(1, PATTERN), access(STORE, 1, 27),
        *hvc(SHARE, BLOCK_IPA), *report(0), access(LOAD, 1, 27), *report(1),
    ]  # fmt: skip
    vm = Vm(machine)
    block = vm.block(BLOCK_IPA)
    guest = Guest(machine, code(*program), vm)
    for _ in range(2):
        assert (exit_ := guest.run()).data == (BLOCK_IPA,)
        assert exit_.name == "NEEDS_SPLIT"
    machine.ok("vm_split", block=block, table=machine.take(), host_table=machine.take())
    assert (exit_ := guest.run()).data == (SHARE, BLOCK_IPA)
    unreachable(machine, block)
    assert machine.ok("share_accept", vm=vm.slot, ipa=BLOCK_IPA).results["frame"] == block
    assert number(machine.backend.memory(block, 8)) == PATTERN
    unreachable(machine, block + PAGE)
    assert guest.reports(2) == [0, PATTERN]


def test_discovery_by_a_guest(machine: Machine) -> None:
    program = [
        *hvc(STANDARD["VENDOR_HYP_UID"]), *report(0, 1, 2, 3),
        *hvc(STANDARD["VENDOR_HYP_FEATURES"]), *report(0, 1, 2, 3),
        *hvc(ABI.call("meminfo").id), *report(0),
        *hvc(SHARE, RAM + 8), *report(0, 1),
    ]  # fmt: skip
    guest = Guest(machine, code(*program))
    assert b"".join(word.to_bytes(4, "little") for word in guest.reports(4)) == ABI.vm_uid.bytes
    assert guest.reports(4) == [0x1D, 0, 0, 0]
    assert guest.reports(1) == [PAGE]
    assert guest.reports(2) == [ABI.status("INVALID_ARGUMENT") & MASK, 1]


def test_random_numbers_for_a_guest(machine: Machine) -> None:
    program = [word for _ in range(2) for word in [*hvc(STANDARD["TRNG_RND64"], 192), *report(0, 1, 2, 3)]]
    guest = Guest(machine, code(*program, *hvc(STANDARD["TRNG_RND32"], 1), *report(0, 1, 2, 3)))
    (first, *values), (second, *others) = guest.reports(4), guest.reports(4)
    assert (first, second) == (0, 0)
    assert len({*values, *others}) == 6
    status, high, middle, low = guest.reports(4)
    assert (status, high, middle) == (0, 0, 0)
    assert low in (0, 1)


# Two CPUs


def endless_stores(address: int) -> bytes:
    """A program of the host that stores to `address` until it faults."""
    return code(*move(9, address), *move(10, PATTERN), access(STORE, 10, 9), branch(-1))


@pytest.mark.raw_memory
def test_unshare_while_the_host_writes(machine: Machine) -> None:
    """CPU 1 of the host stores to the page without end; after the guest's `unshare` nothing of that arrives."""
    backend = machine.backend
    assert isinstance(backend, PayloadBackend)
    program = [
        *hvc(SHARE, PAGE_IPA), *hvc(HOST_CALL), *hvc(UNSHARE, PAGE_IPA),
        *move(27, PAGE_IPA), *move(1, 99), access(STORE, 1, 27), *hvc(HOST_CALL), access(LOAD, 1, 27), *report(1),
    ]  # fmt: skip
    guest = Guest(machine, code(*program))
    frame, stores = guest.vm.page(PAGE_IPA), machine.take()
    assert guest.run().name == "SHARE"
    machine.ok("share_accept", vm=guest.vm.slot, ipa=PAGE_IPA)
    assert guest.run().name == "HOST_CALL"
    backend.write(stores, endless_stores(frame))
    backend.begin(1, stores)
    for _ in range(1000):
        if number(backend.memory(frame, 8)) == PATTERN:
            break
    assert guest.run().data == (UNSHARE, PAGE_IPA)
    with pytest.raises(HostFault):
        backend.finish(1)
    assert guest.run().name == "HOST_CALL"
    assert number(machine.physical(frame, 8)) == 99
    assert guest.reports(1) == [99]


def runner(vcpu: int) -> bytes:
    """A program of the host that runs the vCPU until it makes a HOST_CALL; any other exit but IRQ is a fault."""
    run, host_call = ABI.call("vcpu_run").id, next(e.value for e in ABI.exits if e.name == "HOST_CALL")
    words = [0xD10143FF, 0xF90003FE]  # sub sp, sp, #80; str x30, [sp]
    body = [*move(0, run), *move(1, vcpu)]
    body += [0xD2800000 | register for register in range(2, 7)]  # mov xN, #0
    body += [0xD4000002]  # hvc #0
    body += [0xB5000000 | 5 << 5]  # cbnz x0, udf
    body += [0xB4000001 | (-len(body) & 0x7FFFF) << 5]  # cbz x1, again: IRQ
    body += [0xF100001F | 1 << 5 | host_call << 10]  # cmp x1, #HOST_CALL
    body += [0x54000001 | 2 << 5, branch(2), 0]  # b.ne udf; b out; udf
    return code(*words, *body, 0xF94003FE, 0x910143FF, 0xD65F03C0)  # ldr x30, [sp]; add sp, sp, #80; ret


@pytest.mark.raw_memory
def test_a_block_is_cut_while_its_vm_works_in_it(machine: Machine) -> None:
    """CPU 1 runs a guest that counts in every page of a block; meanwhile CPU 0 cuts it. The guest never notices."""
    backend = machine.backend
    assert isinstance(backend, PayloadBackend)
    rounds = 400
    # x1 counts rounds; x9 walks the pages from x3 to x2, adding 1 to the first word of each.
    loop = [
        0xAA0303E9,  # mov x9, x3
        access(LOAD, 10, 9), 0x91000400 | 10 << 5 | 10, access(STORE, 10, 9),  # add x10, x10, #1
        0x91400400 | 9 << 5 | 9,  # add x9, x9, #4096
        0xEB02001F | 9 << 5, 0x54000003 | (-5 & 0x7FFFF) << 5,  # cmp x9, x2; b.lo
        0xF1000400 | 1 << 5 | 1, 0x54000001 | (-8 & 0x7FFFF) << 5,  # subs x1, x1, #1; b.ne
    ]  # fmt: skip
    start = [*move(1, rounds), *move(2, BLOCK_IPA + BLOCK), *move(3, BLOCK_IPA)]
    vm = Vm(machine)
    block = vm.block(BLOCK_IPA)
    Guest(machine, code(*start, *loop, *hvc(HOST_CALL), FOREVER), vm)
    table, host_table, program = machine.take(), machine.take(), machine.take()
    backend.write(program, runner(vm.contexts[0]))
    backend.begin(1, program)
    for _ in range(1000):
        if number(machine.physical(block + BLOCK - PAGE, 8)):
            break
    machine.ok("vm_split", block=block, table=table, host_table=host_table)
    cut_at = number(machine.physical(block, 8))
    backend.finish(1)
    assert cut_at < rounds, "the guest was through before the block was cut"
    assert {number(machine.physical(block + n * PAGE, 8)) for n in range(512)} == {rounds}
    machine.ok("vcpu_put", cpu=1)
