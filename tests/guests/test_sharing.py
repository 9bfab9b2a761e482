"""What a VM shares with the host by KVM's calls, and takes back, while the hypervisor uses it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from bulkhead.image import build
from bulkhead.inspect.engine import EngineView
from bulkhead.inspect.records import Kind, Shared
from bulkhead.machine.hypervisor import Hypervisor, MachineSpec, hypervisor
from bulkhead.provision import qemu
from guests import puppet
from guests.puppet import (
    DATA,
    HEAD,
    NEXT,
    PAGE,
    POISON,
    RAM,
    RELINQUISH,
    SHARE,
    STATUS,
    UNSHARE,
    WRITE,
    Driver,
    Puppet,
)

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

KVM = uuid.UUID("28b46fb6-2ec5-11e9-a9ca-4b564d003a74")  # Linux include/linux/arm-smccc.h
RINGS = (puppet.TABLE, puppet.AVAILABLE, puppet.USED)
BAD_STATE = -6 & (1 << 64) - 1
AFFINITY_INFO, OFF = 0xC400_0004, 1  # Arm DEN 0022, 5.7
ROUNDS = 40
SHORT = 8  # pages of data of a request that is over soon, for its ring to be looked at often
IO_ERROR = 1


@pytest.fixture
def guest(host: Hypervisor) -> Iterator[Puppet]:
    """A puppet with two vCPUs and a disk of 1 MiB; nothing of it is left afterwards, and no frame is lost."""
    before = host.shim.stats().free_frames
    started = puppet.start(host, disk_size=1 << 20, cpus=2)
    yield started
    host.destroy(started.vm, running=started.console.end is None)
    assert host.shim.stats().free_frames == before


def uses_of(page: int, count: int = 60) -> list[tuple[int, int, int, int]]:
    """Descriptors 1 to `count`: the page as the data of a read, again and again."""
    return [(page, PAGE, NEXT | WRITE, number + 1) for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def many() -> Iterator[Hypervisor]:
    """A machine where each vCPU of a puppet has a CPU to itself."""
    images = build.build()
    spec = MachineSpec(
        image=images.image, engine=images.elf, cpus=4, memory=512 << 20, program=str(qemu.ensure()), time_limit=600.0
    )
    with hypervisor(spec, {puppet.PROGRAM: puppet.program()}) as running:
        yield running


def state(view: EngineView, vm: int, ipa: int) -> tuple[int, Shared, bool]:
    """Physical address and sharing of the page at an address of a VM, and whether the host reaches it."""
    [page] = [one for one in view.vm_mappings(vm) if one.size == PAGE and one.address == ipa]
    record = view.owner(page.output)
    assert (record.kind, record.vm) == (Kind.VM_PAGE, vm)
    reached = any(one.output <= page.output < one.output + one.size for one in view.host_mappings())
    return page.output, record.shared, reached


def test_a_guest_finds_the_calls_as_under_kvm(guest: Puppet) -> None:
    words = guest.call(0x8600_FF01)
    assert b"".join(word.to_bytes(4, "little") for word in words) == KVM.bytes
    assert guest.call(0x8600_0000)[0] == 0b11101  # FEATURES, MEMINFO, MEM_SHARE, MEM_UNSHARE
    assert guest.call(puppet.MEMINFO)[0] == PAGE


def test_the_host_reaches_a_page_from_its_use_until_it_is_unshared(host: Hypervisor, guest: Puppet) -> None:
    driver = Driver(guest)
    guest.share(*RINGS, HEAD, DATA)
    guest.store(DATA, 0x1234_5678_9ABC_DEF0, count=64)
    assert driver.initialise() == 15
    with host.view() as view:
        address, shared, reached = state(view, guest.vm, DATA)
    assert (shared, reached) == (Shared.OFFERED, False)
    assert host.shim.probe(address, "read").faulted
    assert driver.request(1, 0) == 0
    with host.view() as view:
        assert state(view, guest.vm, DATA) == (address, Shared.ACCEPTED, True)
    assert host.shim.probe(address, "read").value == 0x1234_5678_9ABC_DEF0
    assert guest.call(UNSHARE, DATA)[0] == 0
    assert host.shim.probe(address, "read").faulted
    assert host.shim.probe(address, "write").faulted
    with host.view() as view:
        assert state(view, guest.vm, DATA) == (address, Shared.PRIVATE, False)
    assert guest.load(DATA) == 0x1234_5678_9ABC_DEF0
    assert driver.request(0, 0) == IO_ERROR


def test_sharing_twice_and_unsharing_what_is_private_are_refused(guest: Puppet) -> None:
    assert [guest.call(call, DATA)[0] for call in (UNSHARE, SHARE, SHARE, UNSHARE, UNSHARE)] == [
        BAD_STATE, 0, BAD_STATE, 0, BAD_STATE,
    ]  # fmt: skip


def test_a_whole_block_is_cut_for_one_shared_page(host: Hypervisor, guest: Puppet) -> None:
    page = RAM + 0x80_0000
    guest.store(page + 5 * PAGE, 77)
    before = host.shim.stats()
    with host.view() as view:
        assert [one.size for one in view.vm_mappings(guest.vm) if one.address == page] == [2 << 20]
    guest.share(page + 9 * PAGE)
    after = host.shim.stats()
    assert after.calls["vm_split"] == before.calls["vm_split"] + 1
    assert after.exits["needs_split"] == before.exits["needs_split"] + 1
    with host.view() as view:
        pages = [one for one in view.vm_mappings(guest.vm) if page <= one.address < page + (2 << 20)]
        assert len(pages) == 512
        kinds = [view.owner(one.output).shared for one in pages]
    assert [number for number, shared in enumerate(kinds) if shared != Shared.PRIVATE] == [9]
    assert guest.load(page + 5 * PAGE) == 77


def test_what_a_guest_relinquishes_comes_back_to_the_host(host: Hypervisor, guest: Puppet) -> None:
    page = RAM + 0xA0_0000
    guest.share(page + PAGE)  # the block is in pages now
    free = host.shim.stats().free_frames
    lowest = free
    for number in range(100):
        guest.store(page, number + 1)
        assert guest.call(RELINQUISH, page)[0] == 0
        assert guest.load(page) == 0, "it is gone, and what comes is empty"
        lowest = min(lowest, host.shim.stats().free_frames)
    assert free - lowest < 80


def test_a_page_taken_away_and_shared_again_under_the_devices_hands_works(many: Hypervisor) -> None:
    """One vCPU takes the page of eight requests away in the middle of them, another shares it again: what the
    hypervisor hears of that later must not make it forget the page that it has accepted meanwhile.
    """
    before = many.shim.stats().free_frames
    guest = puppet.start(many, disk_size=1 << 20, cpus=3)
    driver = Driver(guest, slots=64)
    guest.share(*RINGS, HEAD, DATA)
    guest.write(HEAD, bytes(16))
    assert driver.initialise() == 15
    driver.descriptors([(HEAD, 16, NEXT, 1), *uses_of(DATA), (STATUS, 1, WRITE, 0)])
    for _ in range(ROUNDS):
        driver.index += 8  # every entry of the ring is 0, the head of the one chain
        guest.store(puppet.AVAILABLE + 2, driver.index, 2)
        assert guest.ask(5, puppet.DEVICE + 0x50, 0, DATA)[:2] == (0, 0)
        while {guest.call(AFFINITY_INFO, vcpu, 0)[0] for vcpu in (1, 2)} != {OFF}:
            pass
        assert guest.call(SHARE, DATA)[0] == BAD_STATE, "both have left it shared"
        driver.offer()
        assert guest.load(STATUS, 1) == 0
    many.destroy(guest.vm, running=True)
    assert many.shim.stats().free_frames == before


@pytest.mark.parametrize("ring", RINGS, ids=["table", "available", "used"])
def test_a_ring_taken_away_under_the_devices_hands_breaks_its_device_at_most(many: Hypervisor, ring: int) -> None:
    before = many.shim.stats().free_frames
    guest = puppet.start(many, disk_size=1 << 20, cpus=3)
    driver = Driver(guest, slots=64)
    guest.share(*RINGS, HEAD, DATA)
    guest.write(HEAD, bytes(16))
    driver.descriptors([(HEAD, 16, NEXT, 1), *uses_of(DATA, SHORT), (STATUS, 1, WRITE, 0)])
    broken, rounds = 0, 0
    while rounds < ROUNDS and broken < 2:
        rounds += 1
        guest.store(puppet.AVAILABLE, 0, count=20)
        guest.store(puppet.USED, 0, count=80)
        assert driver.initialise() == 15
        driver.index = 64
        guest.store(puppet.AVAILABLE + 2, driver.index, 2)
        assert guest.ask(5, puppet.DEVICE + 0x50, 0, ring)[:2] == (0, 0)
        while {guest.call(AFFINITY_INFO, vcpu, 0)[0] for vcpu in (1, 2)} != {OFF}:
            pass
        broken += driver.needs_reset()
        assert driver.needs_reset() or driver.used() == 64, "all of them are done, or the driver knows better"
    assert broken == 2, "the ring was away now and then"
    many.destroy(guest.vm, running=True)
    assert many.shim.stats().free_frames == before


def test_unsharing_under_the_devices_hands_harms_nobody_else(host: Hypervisor, guest: Puppet) -> None:
    """Each request uses the page five hundred times: vCPU 1 takes it away in the middle of one."""
    driver = Driver(guest, slots=64)
    guest.share(*RINGS, HEAD)
    assert driver.initialise() == 15
    driver.descriptors([(HEAD, 16, NEXT, 1), *uses_of(DATA), (STATUS, 1, WRITE, 0)])
    guest.write(HEAD, bytes(16))
    assert guest.ask(4, 1, DATA)[0] == 0, "vCPU 1 shares and unshares the page of the data without end"
    outcomes = set()
    for _ in range(24):
        guest.store(STATUS, POISON, 1)
        driver.offer()
        outcomes.add(guest.load(STATUS, 1))
    assert outcomes <= {0, IO_ERROR}
    assert IO_ERROR in outcomes, "the page was away at least once"
    assert not driver.needs_reset()
    assert host.shim.ping().cpus == 2
