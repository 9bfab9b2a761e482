"""What each successful call changes: exactly that, read from raw records, tables and memory."""

from __future__ import annotations

import pytest

from bulkhead.conformance import HostFault, Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.oracle.snapshot import Changes
from bulkhead.inspect.records import FrameRecord, Kind, VmState
from native.scene import FREE_SLOT, IPA, LIVE, MIB, NEW, RAM, RANGES, UNCOVERED, Scene, zeroed

HOST = FrameRecord(Kind.HOST)
LEAF = 0x7FF
"""Valid page, Normal Write-Back, read-write, inner shareable, accessed (Arm ARM DDI 0487 D8.3, D8.5)."""
TABLE = 3
SECRET = b"what the host left in the frame " * (PAGE // 32)


def given(machine: Machine, frame: int, record: FrameRecord, changes: Changes) -> None:
    """The frame went from the host to what `record` says, and the host cannot reach it."""
    assert changes.frames == {frame: (HOST, record)}
    assert not changes.blocks
    assert not changes.host_level2
    assert machine.entry(machine.host_table(frame), frame % BLOCK // PAGE) == 0
    assert machine.host_walk(frame) is None
    with pytest.raises(HostFault):
        machine.backend.memory(frame, 8)


def returned(machine: Machine, frame: int, record: FrameRecord, changes: Changes) -> None:
    """The frame, which was what `record` says, is the host's, mapped and zeroed."""
    assert changes.frames == {frame: (record, HOST)}
    assert not changes.blocks
    assert not changes.host_level2
    assert machine.entry(machine.host_table(frame), frame % BLOCK // PAGE) == frame | LEAF
    assert machine.host_walk(frame) == frame
    zeroed("the returned frame", machine.backend.memory(frame, PAGE))


def words(changes: Changes, slot: int) -> dict[str, int]:
    """New values of the changed words of a VM's record, measurement left out; no other VM's record changed."""
    assert all(vm == slot for vm, _ in changes.vms)
    return {word: new for (_, word), (_, new) in changes.vms.items() if not word.startswith("measurement")}


@pytest.mark.raw_memory
def test_vm_create(scene: Scene) -> None:
    machine, arguments = scene.machine, scene.good("vm_create")
    machine.backend.write(scene.frame, SECRET)
    _, changes = machine.observe("vm_create", **arguments)
    given(machine, scene.frame, FrameRecord(Kind.VM_TABLE, level=1, vm=FREE_SLOT), changes)
    zeroed("after vm_create its frame", machine.physical(scene.frame))
    assert changes.contents == {scene.frame, machine.host_table(scene.frame)}
    assert words(changes, FREE_SLOT) == {
        "state": VmState.BUILDING, "root": machine.index(scene.frame), "vcpu_count": 1, "ram0_base": RAM,
        "ram0_size": MIB,
    }  # fmt: skip


@pytest.mark.raw_memory
def test_vm_create_records_every_range(machine: Machine) -> None:
    ranges = (0, PAGE, 2 * PAGE, PAGE, 1 << 30, 1 << 30, (1 << 39) - PAGE, PAGE)
    names = [f"ram{n // 2}_{'size' if n % 2 else 'base'}" for n in range(8)]
    arguments = dict(zip(names, ranges, strict=True))
    _, changes = machine.observe("vm_create", vm=5, root=machine.take(), vcpus=8, **arguments)
    recorded = words(changes, 5)
    assert {name: recorded.get(name, 0) for name in names} == arguments
    assert recorded["vcpu_count"] == 8


@pytest.mark.raw_memory
@pytest.mark.parametrize("level", [2, 3])
def test_table_donate(scene: Scene, level: int) -> None:
    machine, vm = scene.machine, scene.new
    ipa = RANGES[1][0] if level == 2 else UNCOVERED
    machine.backend.write(scene.frame, SECRET)
    _, changes = machine.observe("table_donate", vm=NEW, ipa=ipa, level=level, table=scene.frame)
    parent = vm.root if level == 2 else vm.tables[2, RAM]
    slot = ipa >> 30 if level == 2 else ipa >> 21 & 511
    record = FrameRecord(Kind.VM_TABLE, level=level, vm=NEW, slot=slot, parent=machine.index(parent))
    given(machine, scene.frame, record, changes)
    assert machine.entry(parent, slot) == scene.frame | TABLE
    zeroed("after table_donate its frame", machine.physical(scene.frame))
    assert changes.contents == {scene.frame, machine.host_table(scene.frame), parent}
    assert not changes.vms


@pytest.mark.raw_memory
@pytest.mark.parametrize("slot", [NEW, LIVE], ids=["BUILDING", "ACTIVE"])
def test_map_zeroed(scene: Scene, slot: int) -> None:
    machine, vm = scene.machine, {NEW: scene.new, LIVE: scene.live}[slot]
    machine.backend.write(scene.frame, SECRET)
    _, changes = machine.observe("map", vm=slot, ipa=IPA, frame=scene.frame, mode=0)
    table = vm.tables[3, RAM]
    record = FrameRecord(Kind.VM_PAGE, vm=slot, slot=IPA >> 12 & 511, parent=machine.index(table))
    given(machine, scene.frame, record, changes)
    assert machine.entry(table, IPA >> 12 & 511) == scene.frame | LEAF
    assert machine.vm_walk(slot, IPA + 0x123) == scene.frame + 0x123
    zeroed("after map its frame", machine.physical(scene.frame))
    assert changes.contents == {scene.frame, machine.host_table(scene.frame), table}
    assert not changes.vms


@pytest.mark.raw_memory
def test_map_measured_keeps_the_content(scene: Scene) -> None:
    machine, table = scene.machine, scene.new.tables[3, RAM]
    content = SECRET
    machine.backend.write(scene.frame, content)
    _, changes = machine.observe("map", vm=NEW, ipa=IPA, frame=scene.frame, mode=1)
    record = FrameRecord(Kind.VM_PAGE, vm=NEW, slot=IPA >> 12 & 511, parent=machine.index(table))
    given(machine, scene.frame, record, changes)
    assert machine.physical(scene.frame) == content
    assert changes.contents == {machine.host_table(scene.frame), table}
    assert words(changes, NEW) == {}
    assert {word for _, word in changes.vms} <= {f"measurement{n}" for n in range(4)}


@pytest.mark.raw_memory
def test_vcpu_create(scene: Scene) -> None:
    machine = scene.machine
    machine.backend.write(scene.frame, SECRET)
    _, changes = machine.observe("vcpu_create", **scene.good("vcpu_create"))
    given(machine, scene.frame, FrameRecord(Kind.VCPU, vm=NEW, slot=1, parent=0), changes)
    zeroed("after vcpu_create its frame", machine.physical(scene.frame))
    assert changes.contents == {scene.frame, machine.host_table(scene.frame)}
    assert words(changes, NEW) == {"vcpu1": machine.index(scene.frame) + 1}


@pytest.mark.raw_memory
def test_vcpu_set_entry(scene: Scene) -> None:
    machine, vcpu = scene.machine, scene.new.contexts[0]
    _, changes = machine.observe("vcpu_set_entry", vcpu=vcpu, entry=RAM + 4, context=0x1234_5678_9ABC_DEF0)
    off, runnable = FrameRecord(Kind.VCPU, vm=NEW, parent=0), FrameRecord(Kind.VCPU, vm=NEW, parent=1)
    assert changes.frames == {vcpu: (off, runnable)}
    assert changes.contents == {vcpu}
    assert words(changes, NEW) == {}
    context = memoryview(machine.physical(vcpu)).cast("Q")
    assert context[0] == 0x1234_5678_9ABC_DEF0
    assert RAM + 4 in list(context)


@pytest.mark.raw_memory
def test_activate(scene: Scene) -> None:
    machine = scene.machine
    arguments = scene.good("activate")
    reply, changes = machine.observe("activate", **arguments)
    recorded = words(changes, NEW)
    assert recorded.pop("state") == VmState.ACTIVE
    assert recorded.pop("counter_offset", 0) > 0, "the VM's counter shows how long the machine has run"
    assert recorded == {}
    assert tuple(reply.results.values()) == scene.new.measurement.words
    assert not (changes.frames or changes.contents or changes.blocks)


@pytest.mark.raw_memory
@pytest.mark.parametrize("slot", [NEW, LIVE], ids=["BUILDING", "ACTIVE"])
def test_vm_kill(scene: Scene, slot: int) -> None:
    _, changes = scene.machine.observe("vm_kill", vm=slot)
    assert words(changes, slot) == {"state": VmState.DYING}
    assert not (changes.frames or changes.contents or changes.blocks)


@pytest.mark.raw_memory
def test_reclaim_of_a_page(scene: Scene) -> None:
    machine, vm = scene.machine, scene.dead
    frame, table = vm.pages[RAM], vm.tables[3, RAM]
    record = machine.frame_record(frame)
    _, changes = machine.observe("reclaim", frame=frame)
    returned(machine, frame, record, changes)
    assert machine.entry(table, 0) == 0
    assert machine.vm_walk(vm.slot, RAM) is None
    assert changes.contents == {frame, table, machine.host_table(frame)}
    assert not changes.vms


@pytest.mark.raw_memory
def test_reclaim_of_a_vcpu(scene: Scene) -> None:
    machine, vm = scene.machine, scene.live.kill()
    frame = vm.contexts[0]
    record = machine.frame_record(frame)
    _, changes = machine.observe("reclaim", frame=frame)
    returned(machine, frame, record, changes)
    assert words(changes, LIVE) == {"vcpu0": 0}
    assert changes.contents == {frame, machine.host_table(frame)}


@pytest.mark.raw_memory
@pytest.mark.parametrize("level", [2, 3])
def test_table_reclaim(scene: Scene, level: int) -> None:
    machine, vm = scene.machine, scene.new
    ipa = RANGES[1][0] if level == 2 else UNCOVERED
    table = vm.table(level, ipa)
    parent, slot = (vm.root, ipa >> 30) if level == 2 else (vm.tables[2, RAM], ipa >> 21 & 511)
    record = machine.frame_record(table)
    _, changes = machine.observe("table_reclaim", table=table)
    returned(machine, table, record, changes)
    assert machine.entry(parent, slot) == 0
    # An empty table is zero already: only the entries that named and mapped it differ.
    assert changes.contents - {table} == {parent, machine.host_table(table)}
    assert not changes.vms


@pytest.mark.raw_memory
def test_vm_destroy(scene: Scene) -> None:
    machine, vm = scene.machine, scene.dead
    arguments = scene.good("vm_destroy")
    record = machine.frame_record(vm.root)
    _, changes = machine.observe("vm_destroy", **arguments)
    returned(machine, vm.root, record, changes)
    assert machine.physical(machine.layout.vm_records + vm.slot * 512, 512) == bytes(512)
    assert all(slot == vm.slot and new == 0 for (slot, _), (_, new) in changes.vms.items())


@pytest.mark.raw_memory
def test_host_split(scene: Scene) -> None:
    machine, block, table = scene.machine, scene.whole, scene.frame
    machine.backend.write(block, SECRET)
    index = (block - machine.layout.ram_base) // BLOCK
    _, changes = machine.observe("host_split", block=block, table=table)
    assert changes.blocks == {block: (HOST, FrameRecord(Kind.SPLIT))}
    assert changes.frames == {table: (HOST, FrameRecord(Kind.HOST_TABLE, parent=index))}
    assert changes.host_level2 == {block: (block | 0x7FD, table | TABLE)}
    assert machine.host_walk(table) is None
    for frame in range(block, block + BLOCK, PAGE):
        assert machine.entry(table, (frame - block) // PAGE) == frame | LEAF
        assert machine.frame_record(frame) == HOST
        assert machine.host_walk(frame) == frame
    assert machine.backend.memory(block, len(SECRET)) == SECRET


@pytest.mark.raw_memory
@pytest.mark.parametrize("position", [0, 1, 510, 511])
def test_frames_of_a_block_that_was_split_can_be_given(scene: Scene, position: int) -> None:
    machine = scene.machine
    machine.ok("host_split", **scene.good("host_split"))
    frame = scene.whole + position * PAGE
    _, changes = machine.observe("map", vm=NEW, ipa=IPA, frame=frame, mode=0)
    table = machine.index(scene.new.tables[3, RAM])
    given(machine, frame, FrameRecord(Kind.VM_PAGE, vm=NEW, slot=5, parent=table), changes)
    neighbours = [scene.whole + (position ^ 1) * PAGE, scene.whole + 256 * PAGE]
    assert [machine.host_walk(other) for other in neighbours] == neighbours


@pytest.mark.raw_memory
def test_the_block_that_the_host_runs_in_can_be_split(scene: Scene) -> None:
    machine = scene.machine
    block = machine.blocks(Kind.HOST)[0]
    content = machine.physical(block, BLOCK)
    machine.ok("host_split", block=block, table=scene.frame)
    assert machine.backend.memory(block, PAGE) == content[:PAGE]
    assert [machine.host_walk(block + n * PAGE) for n in range(512)] == list(
        range(block, block + BLOCK, PAGE)
    )
    machine.ok("vm_kill", vm=NEW)


def test_a_split_block_cannot_be_split_again(scene: Scene) -> None:
    arguments = scene.good("host_split")
    scene.machine.ok("host_split", **arguments)
    other = scene.machine.take()
    scene.machine.refuses("host_split", "ALREADY_MAPPED", **arguments | {"table": other})
