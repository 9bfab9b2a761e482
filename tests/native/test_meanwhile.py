"""What another CPU does between a check and the exchange that follows it. Host build only.

The fake machine runs one CPU at a time, but takes a store of another that comes just before the next exchange of a
frame record: the interleavings that `vcpu_run` and `reclaim` exchange for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.inspect.records import Kind, VmState

pytestmark = pytest.mark.host

RUNNABLE, LOADED = 1, 0x100


@pytest.fixture
def live(machine: Machine, vm: Callable[..., Vm]) -> Vm:
    """An ACTIVE VM."""
    one = vm()
    one.page()
    return one.activate()


def backend(machine: Machine) -> HostBackend:
    """The fake machine."""
    assert isinstance(machine.backend, HostBackend)
    return machine.backend


def record(machine: Machine, vcpu: int) -> int:
    """Where the record of a vCPU is."""
    return machine.layout.frame_records + 8 * machine.index(vcpu)


@pytest.fixture
def loaded(machine: Machine, live: Vm) -> Iterator[int]:
    """The word of the vCPU's record while CPU 1 has it loaded. CPU 1 only pretends, and gives it back afterwards."""
    vcpu, fake = live.contexts[0], backend(machine)
    before = fake.physical(record(machine, vcpu), 8)
    machine.ok("vcpu_run", cpu=1, vcpu=vcpu)
    word = int.from_bytes(fake.physical(record(machine, vcpu), 8), "little")
    machine.ok("vcpu_put", cpu=1)
    yield word
    fake.poke(record(machine, vcpu), before)


def test_another_cpu_loads_the_vcpu_first(machine: Machine, live: Vm, loaded: int) -> None:
    vcpu = live.contexts[0]
    backend(machine).meanwhile(record(machine, vcpu), loaded)
    assert machine.call("vcpu_run", vcpu=vcpu).status == "BUSY"
    assert machine.frame_record(vcpu).parent == LOADED + 1


def test_the_vm_is_killed_before_the_claim(machine: Machine, live: Vm) -> None:
    """What was claimed of a VM that is dying by now is given back, so that it can be taken back."""
    vcpu = live.contexts[0]
    state = machine.layout.vm_records + live.slot * 512
    backend(machine).meanwhile(state, VmState.DYING)
    assert machine.call("vcpu_run", vcpu=vcpu).status == "BAD_STATE"
    assert machine.frame_record(vcpu).parent == RUNNABLE
    machine.ok("reclaim", frame=vcpu)


def test_another_cpu_loads_the_vcpu_that_is_taken_back(machine: Machine, live: Vm, loaded: int) -> None:
    vcpu = live.contexts[0]
    live.kill()
    backend(machine).meanwhile(record(machine, vcpu), loaded)
    assert machine.call("reclaim", frame=vcpu).status == "BUSY"
    assert machine.frame_record(vcpu).parent == LOADED + 1
    assert machine.vm_record(live.slot).vcpus[0] == machine.index(vcpu)


def test_first_touch(machine: Machine) -> None:
    """A block that nobody has touched since boot is the host's, zeroed, when the host touches it."""
    block, fake = machine.take_block(), backend(machine)
    number = (block - machine.layout.ram_base) // (2 << 20)
    records, entries = machine.layout.block_records + 8 * number, machine.layout.host_level2 + 8 * number
    hosts = fake.physical(records, 8), fake.physical(entries, 8)
    fake.poke(records, Kind.UNCLEARED.to_bytes(8, "little"))
    fake.poke(entries, bytes(8))
    fake.poke(block + 4096, b"left by firmware")
    with machine.locked():
        fake.first_touch(0, block)
        assert fake.physical(block + 4096, 16) == b"left by firmware"
    fake.first_touch(0, block)
    assert (fake.physical(records, 8), fake.physical(entries, 8)) == hosts
    assert not any(fake.physical(block, 2 << 20))
    fake.events()
    fake.first_touch(1, block)
    assert [event.name for event in fake.events()] == ["Lock", "Unlock"]
