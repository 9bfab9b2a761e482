"""The host changes a page from another CPU while it is measured: what runs is not what was measured."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE


def measured(arena: Arena, slot: int, ipa: int, frame: int) -> bytes:
    """The content of the page once it is the VM's."""
    assert arena.map(slot, ipa, frame, 1) == "SUCCESS"
    return arena.machine.physical(frame)


@attack(
    by="host",
    against="P5",
    refused="the host has lost the page on all CPUs before its content is hashed",
    source="time of check to time of use",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    for ipa in range(RAM, RAM + 16 * PAGE, PAGE):
        frame = arena.take()
        arena.begin(f"ldr x0, ={frame:#x}\n 1: add x1, x1, #1\n str x1, [x0, #2048]\n again 1b")
        vm.measurement.page(ipa, measured(arena, vm.slot, ipa, frame))
        arena.stopped(1, "stores to a page that is measured")
    found = arena.machine.vm_record(vm.slot).measurement
    assert found == vm.measurement.digest, "the pages are not what was measured"
