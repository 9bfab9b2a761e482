"""A kernel that knows KVM's calls shares memory with its disk by itself: Linux as Debian ships its source, built with
CONFIG_ARM_PKVM_GUEST and CONFIG_DMA_RESTRICTED_POOL, and told by its device tree which memory its disk may use.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fdt
import pytest

from bulkhead.image import build
from bulkhead.inspect import checks
from bulkhead.inspect.records import Kind, Shared
from bulkhead.machine.disk import POOL_SIZE, REGISTERS
from bulkhead.machine.guest import MIB, RAM_BASE, GuestPlan
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor, MachineSpec, hypervisor
from bulkhead.machine.options import RunOptions
from bulkhead.machine.run import read_guest
from bulkhead.provision import qemu
from guests.conftest import BOOT_SECONDS, DISK_IMAGE, READY
from guests.puppet import PAGE
from guests.test_secrets import make_secret

# A kernel that the cache lacks is built first.
pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(1800)]

SCRIPT_SECONDS = 120.0
POOL = range(RAM_BASE, RAM_BASE + POOL_SIZE, PAGE)
WITNESS = secrets.token_hex(32)
# KVM's UID was found, then FEATURES, MEMINFO, MEM_SHARE, MEM_UNSHARE (Linux drivers/firmware/smccc/kvm_guest.c).
FOUND = re.compile(rb"smccc: KVM: hypervisor services detected \(0x0{8} 0x0{8} 0x0{8} 0x0000001d\)")
# What Linux sets aside for drivers that cannot wait, and shares at once (kernel/dma/pool.c).
ATOMIC = re.compile(rb"DMA: preallocated (\d+) KiB \S+ pool for atomic allocations")
DEAF = "its disk needs a reset: NotShared"
FILE_SYSTEM = rf"""
set -e
dmesg -n 1
sha256sum < /dev/vda
mke2fs -q /dev/vda > /dev/null
mkdir -p /mnt
mount -t ext2 /dev/vda /mnt
head -c 1000000 /dev/urandom > /mnt/random
echo {WITNESS} > /mnt/witness
sha256sum < /mnt/random
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
mount -t ext2 /dev/vda /mnt
sha256sum < /mnt/random
cat /mnt/witness
umount /mnt
head -c 3000000 /dev/urandom > /image
dd if=/image of=/dev/vda bs=64k conv=fsync 2> /dev/null
echo 3 > /proc/sys/vm/drop_caches
sha256sum < /image
head -c 3000000 /dev/vda | sha256sum
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the disk's first content."""
    path = tmp_path_factory.mktemp("pkvm") / "disk.img"
    path.write_bytes(DISK_IMAGE)
    return path


@pytest.fixture(scope="module")
def host(image: Path) -> Iterator[Hypervisor]:
    """A machine with this kernel in its store."""
    images = build.build()
    spec = MachineSpec(
        image=images.image, engine=images.elf, memory=768 * MIB, program=str(qemu.ensure()), time_limit=900.0
    )
    with hypervisor(spec, read_guest(RunOptions(disk=image, pkvm=True)).store()) as running:
        yield running


@pytest.fixture
def plan(image: Path) -> GuestPlan:
    """As `run --pkvm --disk` places the guest, with the kernel's messages on its console."""
    options = RunOptions(memory=128 * MIB, cpus=2, disk=image, pkvm=True, append="console=ttyAMA0")
    return read_guest(options).plan


def sharing(host: Hypervisor, vm: int) -> dict[int, Shared]:
    """How each page of a VM that is not private is shared, by its address there."""
    with host.view() as view:
        records = {one.address: view.owner(one.output) for one in view.vm_mappings(vm)}
    return {
        address: record.shared
        for address, record in records.items()
        if record.kind == Kind.VM_PAGE and record.shared != Shared.PRIVATE
    }


def test_it_finds_the_calls_shares_its_pool_and_keeps_a_file_system(host: Hypervisor, plan: GuestPlan) -> None:
    assert not plan.first, "no program runs before the kernel"
    free = host.shim.stats().free_frames
    console = GuestConsole(host, host.start(plan, disk=True).vm)
    console.wait(READY, BOOT_SECONDS)
    secret = make_secret(console)
    done = console.run(FILE_SYSTEM, SCRIPT_SECONDS)
    lines = done.output.decode().split("\n")
    assert done.status == 0, lines
    assert lines[0].split()[0] == hashlib.sha256(DISK_IMAGE).hexdigest()
    assert lines[1] == lines[2]
    assert lines[3] == WITNESS
    assert lines[4] == lines[5]
    assert FOUND.search(console.output)
    shared = sharing(host, console.vm)
    accepted = {address for address, how in shared.items() if how == Shared.ACCEPTED}
    assert accepted < set(POOL), "the host has reached the pool, and nothing but the pool"
    assert set(POOL) < shared.keys()
    own = sum(int(size) << 10 for size in ATOMIC.findall(console.output))
    assert (len(shared) - len(POOL)) * PAGE == own, "Linux shares its atomic DMA pools, too, and nothing else"
    with host.view() as view:
        found = checks.sightings(view, secret)
        assert found
        assert {(view.owner(one.address).shared, one.host_reaches) for one in found} == {(Shared.PRIVATE, False)}
        seen = checks.sightings(view, WITNESS.encode())
        assert {view.owner(one.address).shared for one in seen} - {Shared.PRIVATE}, "the scan sees the pool"
    host.destroy(console.vm, running=True)  # all its frames are zero, the shared ones among them
    assert host.shim.stats().free_frames == free


def test_without_the_pool_in_its_device_tree_the_disk_reaches_nothing(host: Hypervisor, plan: GuestPlan) -> None:
    """The control: the same kernel puts its queue into private memory then, and the device sees none of it."""
    tree = fdt.parse_dtb(plan.dtb)
    tree.get_node(f"/virtio_mmio@{REGISTERS[0]:x}").remove_property("memory-region")
    console = GuestConsole(host, host.start(replace(plan, dtb=bytes(tree.to_dtb())), disk=True).vm)
    host.machine.wait_until(
        lambda: any(DEAF in line for line in host.shim.log_lines), BOOT_SECONDS, "the device to give up"
    )
    assert Shared.ACCEPTED not in sharing(host, console.vm).values()
    host.destroy(console.vm, running=True)
