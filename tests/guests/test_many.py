"""Many VMs side by side: sixteen stock guests on four CPUs, and guests of up to eight vCPUs on any number of CPUs.

More vCPUs than CPUs, sixteen VMs of eight: `test_crowds`.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator

import pytest

from bulkhead.image import build
from bulkhead.inspect import checks
from bulkhead.machine.guest import MIB
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor, MachineSpec, hypervisor
from bulkhead.machine.options import RunOptions
from bulkhead.machine.run import read_guest
from bulkhead.provision import qemu
from guests.conftest import READY

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

SECONDS = 900.0
"""For a guest's user space; sixteen of them share two cores of this computer."""
SCRIPT_SECONDS = 300.0
VMS = 16
VM_MEMORY = 128 * MIB
MACHINE_MEMORY = VMS * 136 * MIB + 256 * MIB


@contextlib.contextmanager
def machine(cpus: int, memory: int, model: str = "neoverse-n1") -> Iterator[Hypervisor]:
    """A machine whose hypervisor has the stock guest in its store."""
    images = build.build()
    spec = MachineSpec(
        image=images.image,
        engine=images.elf,
        memory=memory,
        cpus=cpus,
        cpu_model=model,
        program=str(qemu.ensure()),
        time_limit=2400.0,
    )
    with hypervisor(spec, read_guest(RunOptions()).store(), say=print) as host:
        yield host


def start(host: Hypervisor, vcpus: int, model: str = "neoverse-n1") -> GuestConsole:
    """One more stock guest."""
    plan = read_guest(RunOptions(memory=VM_MEMORY, cpus=vcpus, cpu_model=model)).plan
    return GuestConsole(host, host.start(plan).vm)


def prove_alive(console: GuestConsole) -> None:
    """The guest answers what only somebody can who computes with a fresh number."""
    nonce = secrets.token_hex(16)
    said = console.run(f"printf %s {nonce} | sha512sum | cut -c1-128", SCRIPT_SECONDS)
    assert said.output.decode().strip() == hashlib.sha512(nonce.encode()).hexdigest()


def destroy_all(host: Hypervisor, consoles: list[GuestConsole]) -> None:
    """Every frame of every VM is accounted for and zero afterwards."""
    with host.view() as view:
        assert checks.isolation_faults(view) == []
        frames = {console.vm: frozenset(view.frames_of(console.vm)) for console in consoles}
    assert sum(len(own) for own in frames.values()) == len(frozenset().union(*frames.values()))
    for console in consoles:
        host.shim.stop(console.vm)
        returned = host.shim.destroy(console.vm, timeout=SCRIPT_SECONDS)
        assert returned.scrubbed
        assert returned.frames == len(frames[console.vm])
    with host.view() as view:
        assert view.live_vms() == {}
        assert [fault for vm, own in frames.items() for fault in checks.scrub_faults(view, vm, own)] == []
        assert checks.isolation_faults(view) == []


@pytest.mark.timeout(1200)
def test_sixteen_guests_live_side_by_side() -> None:
    with machine(4, MACHINE_MEMORY) as host:
        before = host.shim.ping().free_frames
        consoles = [start(host, 1) for _ in range(VMS)]
        for console in consoles:
            console.wait(READY, SECONDS)
        for console in consoles:
            prove_alive(console)
        assert sorted(state.vm for state in host.shim.vms() if state.state == "running") == list(range(VMS))
        destroy_all(host, consoles)
        assert host.shim.ping().free_frames == before


@pytest.mark.parametrize(
    ("model", "cpus", "guests", "vcpus"),
    [("neoverse-n1", 1, 2, 2), ("neoverse-v1", 8, 1, 8), ("neoverse-n2", 3, 2, 8), ("max", 2, 2, 4)],
)
def test_models_and_numbers_of_cpus(model: str, cpus: int, guests: int, vcpus: int) -> None:
    """Overcommitted but for the second."""
    with machine(cpus, guests * 160 * MIB + 256 * MIB, model) as host:
        consoles = [start(host, vcpus, model) for _ in range(guests)]
        for console in consoles:
            console.wait(READY, SECONDS)
            assert console.run("nproc", SCRIPT_SECONDS).output.strip() == str(vcpus).encode()
        for console in consoles:
            prove_alive(console)
        destroy_all(host, consoles)
