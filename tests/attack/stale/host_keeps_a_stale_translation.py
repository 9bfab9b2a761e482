"""The host goes on storing to a frame from another CPU, whose TLB knows the page, while the frame becomes a VM's."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P7",
    refused="TLBI on all CPUs, completed, before the frame has its new content or owner",
    removed=removals.HOST_TLB,
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    frame = arena.machine.take()
    arena.begin(f"ldr x0, ={frame:#x}\n 1: add x1, x1, #1\n str x1, [x0]\n again 1b")
    assert arena.map(vm.slot, RAM, frame) == "SUCCESS"
    arena.stopped(1, "stores through a stale translation")
    assert not any(arena.machine.physical(frame)), "a store by the host has reached a page of a VM"
