"""VMs from creation to the last frame: states, what may not leave, what comes back and how."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.conformance import HostFault, Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.testing.builder import dismantle, owned_frames
from bulkhead.inspect.records import Kind, VmState
from native.scene import LIVE, MIB, RAM, UNCOVERED, Scene

Build = Callable[..., Vm]
SECRET = bytes(range(256)) * 16


@pytest.mark.raw_memory
def test_states_in_order(machine: Machine, vm: Build) -> None:
    one = vm()
    assert one.state == VmState.BUILDING
    assert one.activate().state == VmState.ACTIVE
    assert one.kill().state == VmState.DYING
    dismantle(machine)
    assert machine.vm_word(0, 0) == VmState.FREE


@pytest.mark.raw_memory
@pytest.mark.parametrize("slot", [0, 1, 62, 63])
def test_every_slot_takes_a_vm(machine: Machine, vm: Build, slot: int) -> None:
    one = vm(slot)
    page = one.page(content=SECRET)
    one.activate()
    assert machine.frame_record(page).vm == slot
    assert machine.vm_walk(slot, RAM) == page


def test_a_vm_that_runs_is_given_more(scene: Scene) -> None:
    table = scene.frame
    scene.machine.ok("table_donate", vm=LIVE, ipa=UNCOVERED, level=3, table=table)
    scene.machine.ok("map", vm=LIVE, ipa=UNCOVERED, frame=scene.other, mode=0)


@pytest.mark.raw_memory
def test_all_slots_at_once(machine: Machine, vm: Build) -> None:
    pages = {slot: vm(slot).page() for slot in range(64)}
    assert {slot: machine.vm_walk(slot, RAM) for slot in range(64)} == pages
    assert len(set(pages.values())) == 64


@pytest.mark.raw_memory
def test_every_frame_comes_back_zeroed(machine: Machine, vm: Build) -> None:
    one = vm(vcpus=3)
    for number in range(5):
        one.page(RAM + number * PAGE, content=SECRET)
    one.page(RAM + 8 * MIB)
    one.activate()
    frames = owned_frames(machine)
    assert len(frames) == 1 + 3 + 6 + 3
    dismantle(machine)
    for frame in frames:
        assert machine.frame_record(frame).kind == Kind.HOST
        assert machine.backend.memory(frame, PAGE) == bytes(PAGE)


@pytest.mark.parametrize("what", ["page", "root table", "level 2 table", "level 3 table", "vCPU"])
def test_the_host_cannot_reach_what_it_gave(scene: Scene, what: str) -> None:
    frame = scene.owned()[what]
    with pytest.raises(HostFault):
        scene.machine.backend.memory(frame, 8)
    with pytest.raises(HostFault):
        scene.machine.backend.write(frame + PAGE - 8, b"overwrite")


@pytest.mark.parametrize("state", ["BUILDING", "ACTIVE"])
@pytest.mark.parametrize("what", ["page", "vCPU"])
def test_nothing_leaves_a_vm_that_is_not_dying(scene: Scene, what: str, state: str) -> None:
    vm = {"BUILDING": scene.new, "ACTIVE": scene.live}[state]
    frame = vm.pages[RAM] if what == "page" else vm.contexts[0]
    scene.machine.refuses("reclaim", "BAD_STATE", frame=frame)


def test_reclaim_twice(scene: Scene) -> None:
    frame = scene.dead.pages[RAM]
    scene.machine.ok("reclaim", frame=frame)
    scene.machine.refuses("reclaim", "NOT_OWNED", "frame", frame=frame)


@pytest.mark.parametrize("level", [2, 3])
def test_a_table_with_entries_stays(scene: Scene, level: int) -> None:
    scene.machine.refuses("table_reclaim", "NOT_EMPTY", table=scene.new.tables[level, RAM])


@pytest.mark.parametrize("index", [0, 1, 255, 511])
def test_a_table_with_one_entry_anywhere_stays(machine: Machine, vm: Build, index: int) -> None:
    one = vm()
    one.page(RAM + index * PAGE)
    machine.refuses("table_reclaim", "NOT_EMPTY", table=one.tables[3, RAM])


@pytest.mark.parametrize("state", ["BUILDING", "ACTIVE", "DYING"])
def test_an_empty_table_leaves_in_every_state(machine: Machine, vm: Build, state: str) -> None:
    one = vm()
    table = one.cover(RAM).tables[3, RAM]
    if state != "BUILDING":
        one.activate()
    if state == "DYING":
        one.kill()
    machine.ok("table_reclaim", table=table)
    machine.ok("table_reclaim", table=one.tables[2, RAM])


def test_the_root_leaves_with_the_vm_only(scene: Scene) -> None:
    scene.good("vm_destroy")
    scene.machine.refuses("table_reclaim", "NOT_OWNED", "table", table=scene.dead.root)


@pytest.mark.parametrize("left", ["vCPU", "table"])
def test_destroy_waits_for_the_last_frame(machine: Machine, vm: Build, left: str) -> None:
    one = vm()
    if left == "vCPU":
        one.vcpu()
    else:
        one.table(2)
    one.kill()
    machine.refuses("vm_destroy", "NOT_EMPTY", vm=0)


def test_destroy_of_a_vm_that_never_had_anything(machine: Machine, vm: Build) -> None:
    one = vm().kill()
    machine.ok("vm_destroy", vm=0)
    assert machine.backend.memory(one.root, PAGE) == bytes(PAGE)


@pytest.mark.raw_memory
def test_frames_serve_one_vm_after_the_other(machine: Machine, vm: Build) -> None:
    first = vm(3)
    page = first.page(content=SECRET)
    dismantle(machine)
    machine.forget_taken()
    second = vm(4)
    second.cover(RAM)
    machine.ok("map", vm=4, ipa=RAM, frame=page, mode=0)
    assert machine.frame_record(page).vm == 4
    assert machine.physical(page) == bytes(PAGE)
    assert machine.vm_walk(3, RAM) is None


@pytest.mark.raw_memory
def test_a_slot_serves_one_vm_after_the_other(machine: Machine, vm: Build) -> None:
    first = vm()
    first.page(content=SECRET)
    first.activate()
    dismantle(machine)
    machine.forget_taken()
    second = vm()
    assert machine.vm_walk(0, RAM) is None
    page = second.page(RAM + PAGE, content=SECRET)
    second.activate()
    assert machine.vm_walk(0, RAM + PAGE) == page
    assert machine.vm_record(0).measurement == second.measurement.digest != first.measurement.digest


def test_a_frame_is_in_one_vm_only(scene: Scene) -> None:
    machine, page = scene.machine, scene.new.pages[RAM]
    for slot in (scene.new.slot, scene.live.slot):
        arguments = {"vm": slot, "ipa": RAM + PAGE, "frame": page, "mode": 0}
        machine.refuses("map", "NOT_OWNED", "frame", **arguments)


@pytest.mark.raw_memory
def test_vms_with_the_same_addresses_have_different_frames(scene: Scene) -> None:
    places = [scene.machine.vm_walk(vm.slot, RAM) for vm in (scene.new, scene.live, scene.dead)]
    assert len(set(places)) == 3
    assert None not in places


@pytest.mark.raw_memory
@pytest.mark.parametrize(
    "ipa", [0, PAGE, (2 << 20) - PAGE, 2 << 20, (1 << 30) - PAGE, 1 << 30, (1 << 38), (1 << 39) - PAGE]
)
def test_pages_at_the_edges_of_tables(machine: Machine, vm: Build, ipa: int) -> None:
    one = vm(ram=((0, 1 << 39),))
    page = one.page(ipa)
    assert machine.vm_walk(0, ipa) == page
    assert machine.vm_walk(0, ipa + PAGE - 1) == page + PAGE - 1
    assert machine.vm_walk(0, (ipa ^ PAGE) & (1 << 39) - 1) is None


@pytest.mark.parametrize(("base", "size"), [(0, PAGE), (RAM, 3 * PAGE), ((1 << 39) - PAGE, PAGE)])
def test_ram_begins_and_ends_where_declared(machine: Machine, vm: Build, base: int, size: int) -> None:
    one = vm(ram=((base, size),))
    one.page(base)
    one.page(base + size - PAGE) if size > PAGE else None
    for ipa in (base - PAGE, base + size):
        arguments = {"vm": 0, "ipa": ipa, "frame": machine.take(), "mode": 0}
        machine.refuses("map", "INVALID_ARGUMENT", "ipa", **arguments)


@pytest.mark.raw_memory
@pytest.mark.parametrize("position", ["first", "last"])
def test_first_and_last_frame_of_the_split_block(machine: Machine, vm: Build, position: str) -> None:
    frame = {"first": machine.take(), "last": list(machine.free_frames())[-1]}[position]
    vm().cover(RAM)
    machine.ok("map", vm=0, ipa=RAM, frame=frame, mode=0)
    assert machine.vm_walk(0, RAM) == frame
    assert machine.host_walk(frame) is None
    machine.ok("vm_kill", vm=0)
    machine.ok("reclaim", frame=frame)
    assert machine.host_walk(frame) == frame
