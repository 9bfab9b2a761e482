"""Sixteen VMs of eight vCPUs that never rest, on one to eight CPUs of all models: 128 vCPUs fight for them.

Blocks are cut while all vCPUs of their VM work in them; VMs are killed and destroyed, and CPUs go off and come back,
while all run. A seventeenth VM is refused; one that wants more memory than there is ends alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import product

import pytest

from bulkhead.image import build
from bulkhead.inspect import checks
from bulkhead.inspect.records import Kind
from bulkhead.machine.errors import LinkError
from bulkhead.machine.guest import MIB
from bulkhead.machine.hypervisor import Hypervisor, MachineSpec, hypervisor
from bulkhead.machine.shim import ExitReason
from bulkhead.provision import qemu
from guests import crowd
from guests.crowd import Crowd
from guests.test_hot_cpus import loaded_on

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

SECONDS = 120.0
VMS, VCPUS = 16, 8
MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
CPUS = (1, 2, 8, 4)
"""Of the machine. Each model has the number in its place; `inv soak` tries each with all."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Models and numbers of CPUs."""
    if "model" in metafunc.fixturenames:
        full = metafunc.config.getoption("--storms")
        grid = product(MODELS, CPUS) if full else zip(MODELS, CPUS, strict=True)
        metafunc.parametrize(("model", "cpus"), grid)


@contextlib.contextmanager
def machine(cpus: int, model: str, memory: int = 512 * MIB) -> Iterator[Hypervisor]:
    """A machine that knows the crowd."""
    images = build.build()
    spec = MachineSpec(
        image=images.image,
        engine=images.elf,
        memory=memory,
        cpus=cpus,
        cpu_model=model,
        program=str(qemu.ensure()),
        time_limit=900.0,
    )
    with hypervisor(spec, crowd.programs(), say=print) as host:
        yield host


def destroy(host: Hypervisor, crowds: list[Crowd]) -> None:
    """Kill and destroy them while they run; each frame, counted by the records, comes back as zeros."""
    with host.view() as view:
        assert checks.isolation_faults(view) == []
        frames = {one.vm: frozenset(view.frames_of(one.vm)) for one in crowds}
    for one in crowds:
        returned = host.shim.destroy(one.vm)
        assert returned.scrubbed
        assert returned.frames == len(frames[one.vm])
    with host.view() as view:
        assert not frames.keys() & view.live_vms().keys()
        assert [fault for vm, own in frames.items() for fault in checks.scrub_faults(view, vm, own)] == []
        assert checks.isolation_faults(view) == []


def prove_alive(crowds: list[Crowd]) -> None:
    """All vCPUs of each go on."""
    for one in crowds:
        one.ask()
    for one in crowds:
        one.wait_answer(SECONDS)


def all_loaded(host: Hypervisor, cpus: set[int]) -> bool:
    """Whether each of these CPUs, and no other, has a vCPU loaded."""
    with host.view() as view:
        return loaded_on(view) == cpus


def whole_blocks(host: Hypervisor) -> list[int]:
    """How many blocks each VM has that are not cut."""
    with host.view() as view:
        owners = [one.vm for one in view.blocks if one.kind == Kind.VM_PAGE]
    return [owners.count(vm) for vm in range(VMS)]


def test_sixteen_vms_of_eight_vcpus(model: str, cpus: int) -> None:
    with machine(cpus, model) as host:
        free = host.shim.ping().free_frames
        crowds = [crowd.start(host, VCPUS) for _ in range(VMS)]
        assert sorted(one.vm for one in crowds) == list(range(VMS))
        for one in crowds:
            one.wait_settled(SECONDS)
        assert host.shim.stats().exits["needs_split"] >= VMS * crowd.BLOCKS
        assert whole_blocks(host) == [1] * VMS, "of the blocks of each, one is left"
        seventeenth_is_refused(host)
        host.machine.wait_until(lambda: all_loaded(host, set(range(cpus))), SECONDS, "all CPUs to run vCPUs")
        prove_alive(crowds[::5])
        for cpu in range(1, cpus, 2):
            host.shim.cpu_off(cpu)
        host.machine.wait_until(
            lambda: all_loaded(host, {0, *range(2, cpus, 2)}), SECONDS, "the other CPUs to run vCPUs"
        )
        destroy(host, crowds[::2])
        for cpu in range(1, cpus, 2):
            host.shim.cpu_on(cpu)
        prove_alive(crowds[1::2])
        destroy(host, crowds[1::2])
        assert host.shim.ping().free_frames == free


def seventeenth_is_refused(host: Hypervisor) -> None:
    """Nothing has changed then."""
    free = host.shim.ping().free_frames
    with pytest.raises(LinkError, match="every VM slot is in use"):
        crowd.start(host, 1)
    assert host.shim.ping().free_frames == free
    assert [one.state for one in host.shim.vms()] == ["running"] * VMS


def test_a_vm_that_wants_more_memory_than_there_is_ends_alone() -> None:
    with machine(4, "neoverse-n1", 192 * MIB) as host:
        free = host.shim.ping().free_frames
        small = crowd.start(host, VCPUS)
        small.wait_settled(SECONDS)
        # All vCPUs of the large one ask at once: block by block, then page by page, until there is nothing.
        large = crowd.start(host, VCPUS, ram=1 << 30, program=crowd.GLUTTON)
        host.machine.wait_until(lambda: large.console.end is not None, SECONDS, "the large VM's end")
        assert large.console.end is not None and large.console.end.reason == ExitReason.ERROR
        assert host.shim.ping().free_frames == 0
        prove_alive([small])
        with pytest.raises(LinkError, match="out of memory"):
            crowd.start(host, 1)
        assert sorted(one.vm for one in host.shim.vms()) == [small.vm, large.vm]
        destroy(host, [large])
        third = crowd.start(host, 2)
        third.wait_settled(SECONDS)
        prove_alive([small])
        destroy(host, [small, third])
        assert host.shim.ping().free_frames == free
