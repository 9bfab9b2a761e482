"""vCPUs: creation, entry, activation, and what `vcpu_run` and `vcpu_put` check and record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.testing.machine import ABI
from bulkhead.inspect.records import VmState
from native.guest import WAIT
from native.scene import RAM, Scene

Build = Callable[..., Vm]
OFF, RUNNABLE, LOADED = 0, 1, 0x100
LIST = 1 << 62 | 1 << 60
"""A pending interrupt of group 1; its number goes into the low bits."""


@pytest.fixture
def live(vm: Build) -> Vm:
    """An ACTIVE VM whose vCPU does nothing but wait for an interrupt."""
    one = vm(vcpus=2)
    one.page(content=WAIT)
    return one.activate()


def run_state(machine: Machine, vcpu: int) -> int:
    """The run state in a vCPU's record."""
    return machine.frame_record(vcpu).parent


@pytest.mark.raw_memory
@pytest.mark.parametrize("count", range(1, 9))
def test_every_number_of_vcpus(machine: Machine, vm: Build, count: int) -> None:
    one = vm(vcpus=count)
    for index in reversed(range(count)):
        one.vcpu(index)
    one.activate()
    contexts = machine.vm_record(0).vcpus
    assert [machine.index(one.contexts[index]) for index in range(count)] == list(contexts[:count])
    assert set(contexts[count:]) <= {None}


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_activate_wants_every_vcpu(machine: Machine, vm: Build, missing: int) -> None:
    one = vm(vcpus=3)
    for index in range(3):
        if index != missing:
            one.vcpu(index)
    if missing:
        one.entry()
    machine.refuses("activate", "BAD_STATE", vm=0)


def test_activate_wants_an_entry(machine: Machine, vm: Build) -> None:
    vm().vcpu()
    machine.refuses("activate", "BAD_STATE", vm=0)


@pytest.mark.parametrize("index", [1, 7])
def test_only_the_first_vcpu_has_an_entry(machine: Machine, vm: Build, index: int) -> None:
    one = vm(vcpus=8)
    vcpu = one.vcpu(index)
    machine.refuses("vcpu_set_entry", "INVALID_ARGUMENT", "vcpu", vcpu=vcpu, entry=RAM, context=0)


@pytest.mark.parametrize("state", ["ACTIVE", "DYING"])
def test_the_entry_is_set_while_building_only(machine: Machine, live: Vm, state: str) -> None:
    if state == "DYING":
        live.kill()
    machine.refuses("vcpu_set_entry", "BAD_STATE", vcpu=live.contexts[0], entry=RAM, context=0)


@pytest.mark.raw_memory
@pytest.mark.parametrize("entry", [0, 4, (1 << 39) - 4])
def test_entries_at_the_limits(machine: Machine, vm: Build, entry: int) -> None:
    one = vm()
    one.vcpu()
    one.entry(entry, context=(1 << 64) - 1)
    assert run_state(machine, one.contexts[0]) == RUNNABLE


@pytest.mark.raw_memory
def test_run_loads_and_put_unloads(machine: Machine, live: Vm) -> None:
    vcpu = live.contexts[0]
    reply = machine.ok("vcpu_run", vcpu=vcpu)
    assert ABI.exit_class(reply.results["class"]).name in ("IRQ", "WFI")
    assert run_state(machine, vcpu) == LOADED
    machine.ok("vcpu_put")
    assert run_state(machine, vcpu) == RUNNABLE


@pytest.mark.raw_memory
def test_a_loaded_vcpu_runs_again_where_it_is(machine: Machine, live: Vm) -> None:
    for _ in range(3):
        machine.ok("vcpu_run", vcpu=live.contexts[0])
        assert run_state(machine, live.contexts[0]) == LOADED


@pytest.mark.raw_memory
def test_put_without_a_vcpu(machine: Machine, live: Vm) -> None:
    _, changes = machine.observe("vcpu_put")
    assert not changes
    assert run_state(machine, live.contexts[0]) == RUNNABLE


@pytest.mark.raw_memory
def test_loading_another_vcpu_unloads_the_first(machine: Machine, vm: Build) -> None:
    first, second = vm(0), vm(1)
    for one in (first, second):
        one.page(content=WAIT)
        one.activate()
    machine.ok("vcpu_run", vcpu=first.contexts[0])
    machine.ok("vcpu_run", vcpu=second.contexts[0])
    assert run_state(machine, first.contexts[0]) == RUNNABLE
    assert run_state(machine, second.contexts[0]) == LOADED


@pytest.mark.raw_memory
def test_a_vcpu_is_loaded_on_one_cpu_only(machine: Machine, live: Vm) -> None:
    machine.ok("vcpu_run", vcpu=live.contexts[0], cpu=1)
    assert run_state(machine, live.contexts[0]) == LOADED | 1
    machine.refuses("vcpu_run", "BUSY", vcpu=live.contexts[0])
    machine.ok("vcpu_put")
    assert run_state(machine, live.contexts[0]) == LOADED | 1
    machine.ok("vcpu_put", cpu=1)
    machine.ok("vcpu_run", vcpu=live.contexts[0])


def test_a_loaded_vcpu_is_not_reclaimed(machine: Machine, live: Vm) -> None:
    vcpu = live.contexts[0]
    machine.ok("vcpu_run", vcpu=vcpu)
    live.kill()
    machine.refuses("reclaim", "BUSY", frame=vcpu)
    machine.ok("vcpu_put")
    machine.ok("reclaim", frame=vcpu)


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
def test_a_dying_vm_does_not_run(machine: Machine, live: Vm, loaded: bool) -> None:
    if loaded:
        machine.ok("vcpu_run", vcpu=live.contexts[0])
    live.kill()
    machine.refuses("vcpu_run", "BAD_STATE", vcpu=live.contexts[0])


def test_a_vcpu_that_is_off_does_not_run(machine: Machine, live: Vm) -> None:
    machine.refuses("vcpu_run", "BAD_STATE", vcpu=live.contexts[1])


@pytest.mark.raw_memory
def test_a_vm_under_construction_does_not_run(scene: Scene) -> None:
    scene.new.entry()
    assert scene.new.state == VmState.BUILDING
    scene.machine.refuses("vcpu_run", "BAD_STATE", vcpu=scene.new.contexts[0])


BAD_LISTS = {
    "no state": 1 << 60 | 33,
    "group 0": 1 << 62 | 33,
    "hardware interrupt": LIST | 1 << 61 | 33,
    "special number": LIST | 1020,
    "last number": LIST | 1023,
    "LPI": LIST | 8192,
    "largest number": LIST | 0xFFFF_FFFF,
    "virtual timer": LIST | 27,
    "reserved bit 32": LIST | 1 << 32 | 33,
    "reserved bit 40": LIST | 1 << 40 | 33,
    "reserved bit 47": LIST | 1 << 47 | 33,
    "reserved bit 59": LIST | 1 << 59 | 33,
    "only a number": 33,
}


@pytest.mark.parametrize("register", ["lr0", "lr1", "lr2"])
@pytest.mark.parametrize("value", BAD_LISTS.values(), ids=BAD_LISTS.keys())
def test_malformed_list_register(machine: Machine, live: Vm, register: str, value: int) -> None:
    machine.refuses("vcpu_run", "BAD_REPLY", register, vcpu=live.contexts[0], **{register: value})


@pytest.mark.parametrize(("one", "other"), [("lr0", "lr1"), ("lr0", "lr2"), ("lr1", "lr2")])
def test_an_interrupt_twice(machine: Machine, live: Vm, one: str, other: str) -> None:
    lists = {one: LIST | 40, other: LIST | 1 << 63 | 40}
    machine.refuses("vcpu_run", "BAD_REPLY", other, vcpu=live.contexts[0], **lists)


@pytest.mark.parametrize("control", [1 << 3, 1 << 7, 1 << 16, 1 << 63])
def test_malformed_control(machine: Machine, live: Vm, control: int) -> None:
    machine.refuses("vcpu_run", "BAD_REPLY", "control", vcpu=live.contexts[0], control=control)


def test_lists_are_checked_before_the_vcpu(machine: Machine, live: Vm) -> None:
    machine.refuses("vcpu_run", "BAD_REPLY", "lr2", vcpu=1, lr2=1, control=1 << 63)
    machine.refuses("vcpu_run", "BAD_REPLY", "control", vcpu=1, control=1 << 63)


@pytest.mark.parametrize("intid", [0, 15, 16, 31, 32, 1019])
def test_interrupts_that_may_be_listed(machine: Machine, live: Vm, intid: int) -> None:
    lists = {"lr0": LIST | 0xA0 << 48 | 1 << 41 | intid, "lr2": LIST | 0xFF << 48 | 500}
    machine.ok("vcpu_run", vcpu=live.contexts[0], control=0xFF07, **lists)
