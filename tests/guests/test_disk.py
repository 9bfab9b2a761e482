"""A disk through shared pages only: for stock Debian, for an honest driver, and for drivers that lie."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import pytest

from bulkhead.inspect import checks
from bulkhead.inspect.records import Kind, Shared
from bulkhead.machine.disk import POOL_SIZE
from bulkhead.machine.guest import RAM_BASE
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor
from guests import puppet
from guests.conftest import DISK_IMAGE
from guests.puppet import DATA, HEAD, INDIRECT, NEXT, PAGE, POISON, STATUS, WRITE, Driver, Puppet
from guests.test_secrets import make_secret

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

Boot = Callable[..., GuestConsole]
PRIVATE = DATA + 16 * PAGE
RINGS = (puppet.TABLE, puppet.AVAILABLE, puppet.USED)
OK, IO_ERROR = 0, 1
SECRET = 0x5EC2_E75E_C2E7_5EC2
OUTSIDE = 0xFFFF_FFFF_FFFF_F000

FILE_SYSTEM = r"""
set -e
sha256sum < /dev/vda
mke2fs -q /dev/vda > /dev/null
mkdir -p /mnt
mount -t ext4 /dev/vda /mnt
i=0
while [ $i -lt 20 ]; do echo NUMBER $i > /mnt/$i; i=$((i + 1)); done
head -c 1000000 /dev/urandom > /mnt/random
sha256sum < /mnt/random
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 /dev/vda /mnt
sha256sum < /mnt/random
cat /mnt/7 /mnt/19
umount /mnt
"""
# Pages that hold the secret, until the memory beside the pool is all but full.
FILL = r"""
set -e
mkdir -p /fill
mount -t tmpfs -o size=95% fill /fill
(cat /secret; head -c 4032 /dev/zero) > /piece
for i in 1 2 3 4 5 6; do cat /piece /piece > /pieces; mv /pieces /piece; done
n=0
free() { sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo; }
while [ $(free) -gt 6000 ]; do cat /piece > /fill/$n; n=$((n + 1)); done
rm /piece /fill/[0-7]
dd if=/dev/vda of=/dev/null bs=64k 2> /dev/null
printf MARK%s MARK > /mark
dd if=/mark of=/dev/vda conv=fsync 2> /dev/null
echo $n
sed -n '/zone  *DMA$/,/protection/p' /proc/zoneinfo > /zone
sed -n 's/^ *managed *//p; s/^ *protection: (0, \([0-9]*\),.*/\1/p' /zone
"""


def test_stock_linux_keeps_a_file_system_on_it(host: Hypervisor, boot: Boot) -> None:
    before = host.shim.stats().exits["share"]
    console = boot(disk=True, cpus=2)
    done = console.run(FILE_SYSTEM, 120)
    lines = done.output.decode().split("\n")
    assert lines[0].split()[0] == hashlib.sha256(DISK_IMAGE).hexdigest()
    assert lines[1] == lines[2]
    assert lines[3:5] == ["NUMBER 7", "NUMBER 19"]
    assert done.status == 0
    with host.view() as view:
        shared = {
            one.address
            for one in view.vm_mappings(console.vm)
            if view.owner(one.output).kind == Kind.VM_PAGE and view.owner(one.output).shared != Shared.PRIVATE
        }
    assert shared == set(range(RAM_BASE, RAM_BASE + POOL_SIZE, PAGE)), "the pool, and nothing but the pool"
    assert host.shim.stats().exits["share"] - before == POOL_SIZE // PAGE, "nothing else was ever shared"


def test_stock_linux_keeps_its_memory_out_of_the_pool(host: Hypervisor, boot: Boot) -> None:
    console = boot(disk=True, memory=128 << 20)
    secret = make_secret(console)
    done = console.run(FILL, 120)
    assert done.status == 0, done.output
    pieces, managed, protection = map(int, done.output.split())
    assert pieces > 40  # of 256 KiB
    assert protection > managed, "no allocation that is not for DMA falls back on the pool"
    with host.view() as view:
        found = checks.sightings(view, secret)
        assert len(found) > 2000
        assert {view.owner(one.address).shared for one in found} == {Shared.PRIVATE}
        assert not any(one.host_reaches for one in found)
        written = checks.sightings(view, b"MARKMARK")
        assert {view.owner(one.address).shared for one in written} - {Shared.PRIVATE}, (
            "the scan sees the pool"
        )


@pytest.fixture
def guest(host: Hypervisor) -> Iterator[Puppet]:
    """A puppet with a disk of 1 MiB; nothing of it is left afterwards, and no frame is lost."""
    before = host.shim.stats().free_frames
    started = puppet.start(host, disk_size=1 << 20)
    yield started
    host.destroy(started.vm, running=started.console.end is None)
    assert host.shim.stats().free_frames == before


@pytest.fixture
def driver(guest: Puppet) -> Driver:
    """A driver that has shared what it uses, and has a page with a secret that it has not."""
    guest.share(*RINGS, HEAD, DATA)
    guest.store(PRIVATE, SECRET, count=512)
    started = Driver(guest)
    assert started.initialise() == 15
    return started


def assert_works(driver: Driver, sector: int = 9) -> None:
    """What is written to a sector is read back."""
    value = random.getrandbits(64)
    driver.puppet.store(DATA, value, count=64)
    assert driver.request(1, sector) == OK
    driver.puppet.store(DATA, 0, count=64)
    assert driver.request(0, sector) == OK
    assert driver.puppet.load(DATA + 504) == value


def test_a_driver_reads_what_it_wrote_and_gets_an_interrupt(driver: Driver) -> None:
    assert_works(driver)
    assert (driver.used(), driver.register(0x60)) == (2, 1)
    driver.set(0x64, 1)
    assert driver.register(0x60) == 0


def test_two_disks_are_two(host: Hypervisor, driver: Driver) -> None:
    other = puppet.start(host, disk_size=1 << 20)
    other.share(*RINGS, HEAD, DATA)
    second = Driver(other)
    assert second.initialise() == 15
    assert_works(driver, sector=3)
    assert second.request(0, 3) == OK
    assert other.load(DATA) == 0
    host.destroy(other.vm, running=True)


PLACES = {"table": puppet.TABLE, "available": puppet.AVAILABLE, "used": puppet.USED}


@pytest.mark.parametrize("area", PLACES)
def test_a_queue_at_the_end_of_all_addresses_breaks_its_device(driver: Driver, area: str) -> None:
    assert driver.initialise(**PLACES | {area: OUTSIDE + PAGE - 16}) == 15
    driver.request(0, 0)
    assert driver.needs_reset()
    driver.puppet.write(puppet.AVAILABLE, bytes(8))
    driver.puppet.write(puppet.USED, bytes(8))
    assert driver.initialise() == 15
    assert_works(driver)


@pytest.mark.parametrize("area", PLACES)
def test_a_queue_in_private_memory_is_not_touched(driver: Driver, area: str) -> None:
    assert driver.initialise(**PLACES | {area: PRIVATE}) == 15
    assert driver.request(0, 0) in (POISON, OK), "the status may be there before the used ring is looked at"
    assert driver.needs_reset()
    assert driver.puppet.load(PRIVATE) == driver.puppet.load(PRIVATE + PAGE - 8) == SECRET
    driver.puppet.write(puppet.AVAILABLE, bytes(8))
    driver.puppet.write(puppet.USED, bytes(8))
    assert driver.initialise() == 15
    assert_works(driver)


BEHIND = DATA + PAGE  # private, next to a shared page
TOO_FAR = {
    "a private page": (PRIVATE, 4096),
    "two private pages": (PRIVATE, 8192),
    "a sector across private pages": (PRIVATE - 256, 512),
    "a sector that begins in a shared page": (BEHIND - 256, 512),
    "four sectors of which two are shared": (BEHIND - 1024, 2048),
    "4 GiB from a shared page": (DATA, 0xFFFF_FE00),
    "addresses that wrap": (OUTSIDE + PAGE - 256, 512),
    "the registers of another device": (0x0900_0000, 512),
}


@pytest.mark.parametrize("case", TOO_FAR)
def test_data_beyond_shared_memory_is_an_error_of_the_request(driver: Driver, case: str) -> None:
    address, length = TOO_FAR[case]
    driver.puppet.store(BEHIND, SECRET, count=512)
    for kind in (0, 1):
        assert driver.request(kind, 5, data=address, length=length) == IO_ERROR
    assert (driver.needs_reset(), driver.used()) == (False, 2)
    assert driver.puppet.load(PRIVATE) == driver.puppet.load(PRIVATE + PAGE - 8) == SECRET
    assert driver.puppet.load(BEHIND) == driver.puppet.load(BEHIND + 1024) == SECRET
    for sector in range(5, 9):
        driver.puppet.store(DATA, 1, count=64)
        assert driver.request(0, sector) == OK
        assert driver.puppet.load(DATA) == driver.puppet.load(DATA + 504) == 0, "nothing private got to the disk"


def test_a_page_that_is_no_longer_shared_is_private_to_the_device(driver: Driver) -> None:
    assert_works(driver)
    assert driver.puppet.call(puppet.UNSHARE, DATA)[0] == 0
    assert driver.request(0, 9) == IO_ERROR
    assert driver.puppet.call(puppet.UNSHARE, puppet.USED)[0] == 0
    driver.request(4, 0)
    assert driver.needs_reset()
    driver.puppet.share(DATA, puppet.USED)
    driver.puppet.write(puppet.AVAILABLE, bytes(8))
    driver.puppet.write(puppet.USED, bytes(8))
    driver.initialise()
    assert_works(driver)


Entries = list[tuple[int, int, int, int]]
MALFORMED: dict[str, tuple[Entries, int, int]] = {
    "a chain that loops": ([(HEAD, 16, NEXT, 1), (DATA, 512, NEXT, 0)], 0, 1),
    "a descriptor that follows itself": ([(HEAD, 16, NEXT, 0)], 0, 1),
    "a chain that leaves the table": ([(HEAD, 16, NEXT, puppet.SIZE)], 0, 1),
    "an indirect table": ([(DATA, 32, INDIRECT, 0)], 0, 1),
    "writable before readable": (
        [(DATA, 512, WRITE | NEXT, 1), (HEAD, 16, NEXT, 2), (STATUS, 1, WRITE, 0)],
        0,
        1,
    ),
    "no room for a status": ([(HEAD, 16, 0, 0)], 0, 1),
    "a head that is too short": ([(HEAD, 15, NEXT, 1), (STATUS, 1, WRITE, 0)], 0, 1),
    "a head index behind the table": ([(HEAD, 16, NEXT, 1), (STATUS, 1, WRITE, 0)], puppet.SIZE, 1),
    "a ring index that jumps": ([(HEAD, 16, NEXT, 1), (STATUS, 1, WRITE, 0)], 0, puppet.SIZE + 1),
    "a ring index that goes back": ([(HEAD, 16, NEXT, 1), (STATUS, 1, WRITE, 0)], 0, 0xFFFF),
    "a status that is private": ([(HEAD, 16, NEXT, 1), (PRIVATE, 1, WRITE, 0)], 0, 1),
    "a status beyond all memory": ([(HEAD, 16, NEXT, 1), (OUTSIDE, 1, WRITE, 0)], 0, 1),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_ring_breaks_its_device_and_nothing_else(
    host: Hypervisor, driver: Driver, case: str
) -> None:
    entries, head, step = MALFORMED[case]
    free = host.shim.stats().free_frames
    driver.puppet.store(HEAD, 4)  # type FLUSH, in case that the request is read
    driver.descriptors(entries)
    driver.offer(head, step)
    assert driver.needs_reset()
    assert driver.used() == 0
    assert driver.puppet.load(PRIVATE) == SECRET
    assert host.shim.stats().free_frames == free
    driver.puppet.write(puppet.AVAILABLE, bytes(8))
    driver.initialise()
    assert_works(driver)
