"""The host names the middle of a frame, so that a page of a VM begins in one frame and ends in the next."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P1",
    refused="an address must be a multiple of the page size",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "address & (FRAME_SIZE - 1) != 0 ||",
        "address & 7 != 0 ||",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    frame = arena.take()
    for offset in (1, 8, 64, PAGE // 2, PAGE - 1):
        assert arena.map(vm.slot, RAM, frame + offset) == "INVALID_ARGUMENT", f"offset {offset:#x} is ignored"
