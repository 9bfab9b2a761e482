"""Whole blocks of VMs: what each call changes, what excludes what, and what the host can still reach."""

from __future__ import annotations

import struct

import pytest

from bulkhead.conformance import HostFault, Machine
from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.inspect.records import FrameRecord, Kind
from native.scene import BLOCK_IPA, LIVE, NEW, RAM, Scene, zeroed

HOST = FrameRecord(Kind.HOST)
BLOCK_LEAF, LEAF, TABLE = 0x7FD, 0x7FF, 3
SLOT = BLOCK_IPA >> 21 & 511
SECRET = b"what was in the block before it "
ENDS = (0, BLOCK // 2, BLOCK - PAGE, BLOCK - len(SECRET))


def number(machine: Machine, block: int) -> int:
    """Index of a block."""
    return (block - machine.layout.ram_base) // BLOCK


def unreachable(machine: Machine, address: int) -> None:
    """The host program gets an exception when it loads or stores there."""
    assert machine.host_walk(address) is None
    with pytest.raises(HostFault):
        machine.backend.memory(address, 8)
    with pytest.raises(HostFault):
        machine.backend.write(address, b"mine")


@pytest.mark.raw_memory
@pytest.mark.parametrize("slot", [NEW, LIVE], ids=["BUILDING", "ACTIVE"])
def test_map_block(scene: Scene, slot: int) -> None:
    machine, vm = scene.machine, {NEW: scene.new, LIVE: scene.live}[slot]
    block, level2 = scene.whole, vm.tables[2, RAM]
    for offset in ENDS:
        machine.backend.write(block + offset, SECRET)
    _, changes = machine.observe("map_block", vm=slot, ipa=BLOCK_IPA, block=block)
    owned = FrameRecord(Kind.VM_PAGE, vm=slot, slot=SLOT, parent=machine.index(level2))
    assert changes.blocks == {block: (HOST, owned)}
    assert changes.host_level2 == {block: (block | BLOCK_LEAF, 0)}
    assert changes.contents == {level2}
    assert not (changes.frames or changes.vms or changes.dma_level2)
    assert machine.entry(level2, SLOT) == block | BLOCK_LEAF
    zeroed("the block", machine.physical(block, BLOCK))
    for offset in ENDS:
        assert machine.vm_walk(slot, BLOCK_IPA + offset + 8) == block + offset + 8
        unreachable(machine, block + offset)


@pytest.mark.raw_memory
def test_vm_split(scene: Scene) -> None:
    machine, vm = scene.machine, scene.new
    block, level2 = scene.vm_block, vm.tables[2, RAM]
    content = struct.pack("<Q", 0x5EC2E7) * (PAGE // 8)
    machine.backend.poke(block + 7 * PAGE, content)  # as the VM would have written
    arguments = scene.good("vm_split")
    table, host_table = arguments["table"], arguments["host_table"]
    for frame in (table, host_table):
        machine.backend.write(frame, b"\xff" * PAGE)  # would be descriptors
    whole = machine.block_record(block)
    _, changes = machine.observe("vm_split", **arguments)
    assert changes.blocks == {block: (whole, FrameRecord(Kind.SPLIT))}
    assert changes.frames == {
        table: (HOST, FrameRecord(Kind.VM_TABLE, 3, NEW, SLOT, machine.index(level2))),
        host_table: (HOST, FrameRecord(Kind.HOST_TABLE, parent=number(machine, block))),
    }
    assert changes.host_level2 == {block: (0, host_table | TABLE)}
    assert not (changes.vms or changes.dma_level2)
    assert machine.entry(level2, SLOT) == table | TABLE
    zeroed("the host's table", machine.physical(host_table))
    for slot in range(FRAMES_IN_BLOCK):
        frame = block + slot * PAGE
        assert machine.entry(table, slot) == frame | LEAF
        assert machine.frame_record(frame) == FrameRecord(Kind.VM_PAGE, 0, NEW, slot, machine.index(table))
        assert machine.vm_walk(NEW, BLOCK_IPA + slot * PAGE) == frame
    assert machine.physical(block + 7 * PAGE) == content
    for address in (block, block + BLOCK - PAGE, table, host_table):
        unreachable(machine, address)


@pytest.mark.raw_memory
@pytest.mark.parametrize("position", [0, 1, 510, 511])
def test_pages_of_a_block_that_was_split_come_back_one_by_one(scene: Scene, position: int) -> None:
    machine = scene.machine
    block, arguments = scene.vm_block, scene.good("vm_split")
    machine.ok("vm_split", **arguments)
    frame = block + position * PAGE
    machine.backend.poke(frame, SECRET)
    scene.new.kill()
    machine.ok("reclaim", frame=frame)
    zeroed("the frame", machine.backend.memory(frame, PAGE))
    assert machine.vm_walk(NEW, BLOCK_IPA + position * PAGE) is None
    unreachable(machine, block + (position ^ 1) * PAGE)
    machine.refuses("table_reclaim", "NOT_EMPTY", table=arguments["table"])


@pytest.mark.raw_memory
def test_reclaim_block(scene: Scene) -> None:
    machine, vm = scene.machine, scene.new
    block, level2 = scene.vm_block, vm.tables[2, RAM]
    for offset in ENDS:
        machine.backend.poke(block + offset, SECRET)
    owned = machine.block_record(block)
    vm.kill()
    _, changes = machine.observe("reclaim_block", block=block)
    assert changes.blocks == {block: (owned, HOST)}
    assert changes.host_level2 == {block: (0, block | BLOCK_LEAF)}
    assert changes.contents == {level2}
    assert not (changes.frames or changes.vms)
    assert machine.entry(level2, SLOT) == 0
    assert machine.vm_walk(NEW, BLOCK_IPA) is None
    zeroed("the block", machine.physical(block, BLOCK))
    assert [machine.host_walk(block + offset) for offset in ENDS] == [block + offset for offset in ENDS]
    zeroed("the end of the block", machine.backend.memory(block + BLOCK - PAGE, PAGE))


def test_nothing_else_fits_where_a_block_is(scene: Scene) -> None:
    machine, vm = scene.machine, scene.new
    block = scene.vm_block
    for ipa in (BLOCK_IPA, BLOCK_IPA + BLOCK - PAGE):
        machine.refuses("map", "ALREADY_MAPPED", vm=NEW, ipa=ipa, frame=scene.frame, mode=0)
        machine.refuses("table_donate", "ALREADY_MAPPED", vm=NEW, ipa=ipa, level=3, table=scene.frame)
    machine.refuses("map_block", "ALREADY_MAPPED", vm=NEW, ipa=BLOCK_IPA, block=scene.whole)
    machine.refuses("table_reclaim", "NOT_EMPTY", table=vm.tables[2, RAM])
    machine.refuses("reclaim", "NOT_OWNED", "frame", frame=block)
    machine.refuses("vcpu_run", "NOT_OWNED", "vcpu", vcpu=block)
    vm.kill()
    machine.refuses("vm_split", "BAD_STATE", block=block, table=scene.frame, host_table=scene.other)
    machine.refuses("vm_destroy", "NOT_EMPTY", vm=NEW)


@pytest.mark.raw_memory
def test_a_block_can_take_the_place_of_an_empty_table(scene: Scene) -> None:
    machine, vm = scene.machine, scene.new
    table = vm.table(3, BLOCK_IPA)
    machine.refuses("map_block", "ALREADY_MAPPED", vm=NEW, ipa=BLOCK_IPA, block=scene.whole)
    machine.ok("table_reclaim", table=table)
    machine.ok("map_block", vm=NEW, ipa=BLOCK_IPA, block=scene.whole)
    assert machine.vm_walk(NEW, BLOCK_IPA) == scene.whole


@pytest.mark.host
def test_a_block_that_nobody_has_touched(scene: Scene) -> None:
    """UNCLEARED, as boot leaves it: a VM may have it, everything else needs the host's touch first."""
    machine, block = scene.machine, scene.whole
    assert isinstance(machine.backend, HostBackend)
    layout, index = machine.layout, number(machine, block)
    for offset in ENDS:
        machine.backend.poke(block + offset, SECRET)
    machine.backend.poke(layout.block_records + 8 * index, struct.pack("<Q", Kind.UNCLEARED))
    machine.backend.poke(layout.host_level2 + 8 * index, bytes(8))
    unreachable(machine, block)
    machine.refuses("host_split", "NOT_CLEARED", "block", block=block, table=scene.frame)
    machine.refuses("dma_allow", "NOT_CLEARED", "block", block=block)
    machine.refuses("dma_revoke", "NOT_OWNED", "block", block=block)
    machine.refuses("reclaim_block", "NOT_OWNED", "block", block=block)
    machine.refuses("vm_split", "NOT_OWNED", "block", block=block, table=scene.frame, host_table=scene.other)
    for frame in (block, block + BLOCK - PAGE):
        machine.refuses("map", "NOT_CLEARED", "frame", vm=NEW, ipa=RAM + PAGE, frame=frame)
        machine.refuses("vm_create", "NOT_CLEARED", "root", **scene.good("vm_create") | {"root": frame})
        machine.refuses("reclaim", "NOT_CLEARED", "frame", frame=frame)
        machine.refuses("vcpu_run", "NOT_CLEARED", "vcpu", vcpu=frame)
    machine.ok("map_block", vm=NEW, ipa=BLOCK_IPA, block=block)
    zeroed("the block", machine.physical(block, BLOCK))
    unreachable(machine, block)
