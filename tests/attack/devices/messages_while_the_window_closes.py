"""A function, rung by another CPU, sends message after message to a window that the host closes and gives to a VM."""

import time

from attack.arena import RAM, Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE

ROUNDS = 12
QUIET = 0.02
"""Seconds in which thousands of messages are sent."""
MESSAGE = 0x5A5A


@attack(
    by="device",
    against="P7",
    refused="the entry is cleared, then the SMMU forgets it, then the host is told",
    removed=Edit(
        "engine/arch/src/smmu.rs",
        "    run(&[[CMD_TLBI_S12_VMALL | DMA_VMID << VMID_SHIFT, 0]]);\n",
        "",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    window = arena.window()
    device = edu.Edu(pci.function(arena, EDU))
    device.message(window, MESSAGE)
    arena.begin(f"""
        ldr     x1, ={device.base + edu.RAISE:#x}
        mov     w2, #1
    1:  str     w2, [x1]
        str     w2, [x1, #{edu.ACKNOWLEDGE - edu.RAISE}]
        again   1b
    """)
    for _ in range(ROUNDS):
        arena.machine.ok("dma_allow", block=window)
        arena.wait(lambda: any(arena.machine.physical(window, 4)), "a message")
        arena.machine.ok("dma_revoke", block=window)
        arena.write(window, bytes(8))
        time.sleep(QUIET)
        assert not any(arena.machine.physical(window, 4)), "a message has arrived after its window was closed"
    arena.machine.ok("dma_allow", block=window)
    arena.wait(lambda: any(arena.machine.physical(window, 4)), "a message")
    arena.machine.ok("dma_revoke", block=window)
    vm = Vm(arena.machine)
    vm.table(2)
    arena.machine.ok("map_block", vm=vm.slot, ipa=RAM, block=window)
    time.sleep(QUIET)
    assert not any(arena.machine.physical(window, PAGE)), "a message has reached a block that is a VM's now"
    arena.finish()
