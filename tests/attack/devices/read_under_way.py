"""The host closes a window while a drive still has to serve reads to it, and gives the block to a VM."""

import time

from attack.arena import RAM, Arena
from boot.devices import nvme, pci
from bulkhead.attack import Edit, Machine, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE

SECRET = b"of the VM".ljust(PAGE, b".")


@attack(
    by="device",
    against="P7",
    refused="a function whose transfers may outlast their translation is reset when a window closes",
    removed=Edit("engine/arch/src/smmu.rs", "            write(register, FUNCTION_RESET);\n", ""),
    machine=Machine(devices=nvme.SLOW_OPTIONS, extra=nvme.SLOW_DRIVE),
)
def carry_out(arena: Arena) -> None:
    queues, window = arena.window(opened=True), arena.window(opened=True)
    nvme.Nvme(pci.function(arena, 1)).start_reading(queues, window)
    arena.machine.ok("dma_revoke", block=window)
    vm = Vm(arena.machine)
    vm.table(2)
    arena.machine.ok("map_block", vm=vm.slot, ipa=RAM, block=window)
    pages = range(window, window + nvme.READS * PAGE, PAGE)
    for page in pages:
        arena.backend.poke(page, SECRET)
    time.sleep(nvme.LATE)
    assert all(arena.machine.physical(page) == SECRET for page in pages), (
        "a read has reached a block that is a VM's now"
    )
