"""Real guests in real VMs: one machine for each file of tests, with the stock guest, the puppet and a disk image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulkhead.image import build
from bulkhead.image.build import Images
from bulkhead.machine.guest import MIB
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import DISK, Hypervisor, MachineSpec, hypervisor
from bulkhead.machine.options import RunOptions
from bulkhead.machine.run import measured, read_guest
from bulkhead.provision import qemu
from guests import puppet

READY = b"bulkhead-guest: ready"
BOOT_SECONDS = 120.0
DISK_IMAGE = bytes(number % 251 for number in range(4 * MIB))


@pytest.fixture(scope="module")
def images() -> Images:
    """What the machine boots; a file of tests may have its own."""
    return build.build()


@pytest.fixture(scope="module")
def host(images: Images) -> Iterator[Hypervisor]:
    """A machine whose hypervisor is ready to start VMs from the stock guest's files."""
    spec = MachineSpec(
        image=images.image,
        engine=images.elf,
        memory=1024 * MIB,
        program=str(qemu.ensure()),
        time_limit=2400.0,
    )
    extra = {puppet.PROGRAM: puppet.program(), DISK: DISK_IMAGE}
    with hypervisor(spec, read_guest(RunOptions()).store() | extra) as running:
        yield running


@pytest.fixture
def boot(host: Hypervisor, tmp_path: Path) -> Iterator[Callable[..., GuestConsole]]:
    """`boot(memory=…, cpus=…, disk=…)` starts the stock guest, and waits for its user space unless told not to.
    Each is measured as its description says.

    What is left of the guests ends with the test.
    """
    started: list[GuestConsole] = []

    image = tmp_path / "disk.img"
    image.write_bytes(DISK_IMAGE)

    def start(
        *, memory: int = 128 * MIB, cpus: int = 1, wait: bool = True, disk: bool = False
    ) -> GuestConsole:
        guest = read_guest(RunOptions(memory=memory, cpus=cpus, disk=image if disk else None))
        console = GuestConsole(host, host.start(guest.plan, disk=disk).vm)
        started.append(console)
        measured(host, console.vm, guest.measurement)
        if wait:
            console.wait(READY, BOOT_SECONDS)
        return console

    yield start
    alive = {state.vm for state in host.shim.vms()} if started else set()
    for console in started:
        if console.vm in alive:
            host.destroy(console.vm, running=console.end is None)
