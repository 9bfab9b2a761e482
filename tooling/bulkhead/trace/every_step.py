"""A sequence in which every call and step that changes ownership succeeds at least once, and some are refused.

Trust label: TOOL.
"""

from __future__ import annotations

from bulkhead.conformance.testing.builder import RAM, Vm
from bulkhead.conformance.testing.machine import ABI
from bulkhead.inspect.records import Kind
from bulkhead.trace.traced import TracedMachine

PAGE, BLOCK, MIB = 4096, 2 << 20, 1 << 20
SHARED, GIVEN, KEPT, BLOCK_IPA = RAM + PAGE, RAM + 2 * PAGE, RAM + 3 * PAGE, RAM + 4 * MIB
HVC, FOREVER = 0xD4000002, 0x14000000


def take_every_step(machine: TracedMachine) -> None:
    """Builds a VM, lets it share and give back pages, opens a DMA window, and takes everything apart again."""
    untouched = machine.blocks(Kind.UNCLEARED)
    machine.touch(untouched[0])
    _window(machine)
    vm = _build(machine)
    _refused(machine, vm)
    _run(machine, vm)
    machine.check_attributes()
    _take_apart(machine, vm)


def _window(machine: TracedMachine) -> None:
    block = machine.take_block()
    if machine.ok("features").results["features"] & 1:
        machine.ok("dma_allow", block=block)
        machine.ok("dma_revoke", block=block)
    machine.ok("host_split", block=block, table=machine.take())


def _build(machine: TracedMachine) -> Vm:
    """A VM with pages, a block and two vCPUs, whose program shares a page and gives back another."""
    steps = (("share", SHARED), ("unshare", SHARED), ("share", SHARED), ("unshare", SHARED),
             ("share", GIVEN), ("relinquish", GIVEN), ("relinquish", SHARED), ("share", KEPT))  # fmt: skip
    vm = Vm(machine, 0, ram=((RAM, 16 * MIB),), vcpus=2)
    vm.page(RAM, content=program(*((ABI.call(name).id, ipa) for name, ipa in steps)))
    for page in (SHARED, GIVEN, KEPT):
        vm.page(page)
    vm.block(BLOCK_IPA)
    return vm.activate()


def _refused(machine: TracedMachine, vm: Vm) -> None:
    """What is refused takes the lock and gives it back, and does nothing in between."""
    machine.call("map", vm=vm.slot, ipa=RAM, frame=machine.take(), mode=0)
    machine.call("vm_create", vm=vm.slot, root=machine.take(), vcpus=1)
    machine.call("reclaim", frame=vm.pages[RAM])
    machine.call("reclaim_block", block=vm.blocks[BLOCK_IPA])
    machine.call("share_accept", vm=vm.slot, ipa=RAM)
    machine.call("vm_destroy", vm=vm.slot)


def _run(machine: TracedMachine, vm: Vm) -> None:
    vcpu = vm.contexts[0]
    machine.run(vcpu, "share", vm.slot, SHARED)
    machine.ok("share_accept", vm=vm.slot, ipa=SHARED)
    machine.ok("share_release", vm=vm.slot, ipa=SHARED)
    machine.run(vcpu, "unshare", vm.slot, SHARED)
    machine.run(vcpu, "share", vm.slot, SHARED)
    machine.ok("share_accept", vm=vm.slot, ipa=SHARED)
    machine.run(vcpu, "unshare", vm.slot, SHARED)
    machine.run(vcpu, "share", vm.slot, GIVEN)
    machine.ok("share_accept", vm=vm.slot, ipa=GIVEN)
    machine.run(vcpu, "relinquish", vm.slot, GIVEN)
    machine.run(vcpu, "relinquish", vm.slot, SHARED)
    machine.run(vcpu, "share", vm.slot, KEPT)
    machine.ok("share_accept", vm=vm.slot, ipa=KEPT)


def _take_apart(machine: TracedMachine, vm: Vm) -> None:
    """Among the pages of the dying VM is one that the host reaches."""
    machine.ok("vm_split", block=vm.blocks[BLOCK_IPA], table=machine.take(), host_table=machine.take())
    second = machine.take_block()
    machine.quickly("map_block", vm=vm.slot, ipa=BLOCK_IPA + BLOCK, block=second)
    vm.kill()
    machine.ok("reclaim_block", block=second)
    for page in (RAM, KEPT):
        machine.ok("reclaim", frame=vm.pages[page])
    for context in vm.contexts.values():
        machine.ok("reclaim", frame=context)
    for page in range(vm.blocks[BLOCK_IPA], vm.blocks[BLOCK_IPA] + BLOCK, PAGE):
        machine.quickly("reclaim", frame=page)
    for table, record in [
        (frame, machine.frame_record(frame)) for frame in machine.known.frames((Kind.VM_TABLE,))
    ]:
        if record.level == 3:
            machine.ok("table_reclaim", table=table)
    machine.ok("table_reclaim", table=vm.tables[2, RAM])
    machine.ok("vm_destroy", vm=vm.slot)


def program(*calls: tuple[int, int]) -> bytes:
    """Machine code that makes calls with one argument each, one after the other, and then loops (C6.2: MOVZ, MOVK)."""
    words: list[int] = []
    for values in calls:
        for register, value in enumerate((*values, 0, 0)):
            words.append(0xD2800000 | (value & 0xFFFF) << 5 | register)
            words.append(0xF2A00000 | (value >> 16 & 0xFFFF) << 5 | register)
        words.append(HVC)
    return b"".join(word.to_bytes(4, "little") for word in (*words, FOREVER))
