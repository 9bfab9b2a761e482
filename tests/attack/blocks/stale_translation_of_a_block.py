"""The host goes on storing to a block from another CPU while it becomes a VM's."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P7",
    refused="TLBI on all CPUs, completed, before the block is zeroed",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.invalidate_host_page(block.first());\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine)
    vm.table(2)
    block = arena.machine.take_block()
    arena.begin(f"ldr x0, ={block + 8 * PAGE:#x}\n 1: add x1, x1, #1\n str x1, [x0]\n again 1b")
    arena.wait(lambda: any(arena.machine.physical(block + 8 * PAGE, 8)), "the other CPU to store")
    arena.machine.ok("map_block", vm=vm.slot, ipa=RAM, block=block)
    arena.stopped(1, "stores through a stale translation")
    assert not any(arena.machine.physical(block, BLOCK)), "a store by the host has reached a VM's block"
