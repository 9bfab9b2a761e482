"""The host closes a window and gives the block to a VM, while the SMMU may still know the translation."""

from attack.arena import RAM, Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="device",
    against="P7",
    refused="dma_revoke invalidates the SMMU's TLB and waits for it",
    removed=Edit(
        "engine/arch/src/smmu.rs",
        "    run(&[[CMD_TLBI_S12_VMALL | DMA_VMID << VMID_SHIFT, 0]]);\n",
        "",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work, window = arena.window(opened=True), arena.window(opened=True)
    engine = edu.Edu(pci.function(arena, EDU))
    arena.write(work, b"forged".ljust(64))
    engine.copy(work, window, 64)
    assert arena.read(window, 6) == b"forged", "DMA does not work in its window"
    arena.machine.ok("dma_revoke", block=window)
    vm = Vm(arena.machine)
    vm.table(2)
    arena.machine.ok("map_block", vm=vm.slot, ipa=RAM, block=window)
    engine.copy(work, window, 64)
    assert not any(arena.machine.physical(window, 64)), "DMA has reached a block that is a VM's now"
