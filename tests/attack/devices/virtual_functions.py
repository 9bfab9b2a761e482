"""The host brings up a virtual function of a listed one, with queues in a VM's page and in the engine."""

from contextlib import suppress

from attack.arena import Arena
from boot.devices import nvme, pci
from boot.devices.bus import load, store
from bulkhead.attack import Edit, Machine, attack
from bulkhead.conformance import HostFault
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.image.memory_map import device

BAR = device("PCIE_MMIO").base + 0x100_0000


@attack(
    by="device",
    against="P5",
    refused="its configuration page is in nobody's reach, so it masters no bus; its stream aborts",
    removed=Edit(
        "engine/image/src/pcie.rs",
        "(0..).zip(&self.0).filter(|(_, listed)| **listed).map(",
        "(0..).zip(&self.0).map(",
    ),
    machine=Machine(devices=nvme.VIRTUAL_OPTIONS),
)
def carry_out(arena: Arena) -> None:
    arena.machine.needs_reset = True
    work = arena.window(opened=True)
    arena.write(work, nvme.identify(work + 2 * PAGE))
    victim = arena.victim()
    page = nvme.bring_up_virtual(pci.function(arena, 1), work + 4 * PAGE, BAR)

    def strike(target: int) -> None:
        with suppress(HostFault):
            store(arena, page + pci.COMMAND, pci.MEMORY | pci.MASTER, 2)
        nvme.ring_blindly(arena, BAR, work, target)

    arena.withstands(victim, strike, "a virtual function")
    strike(work + PAGE)
    assert not any(arena.read(work + PAGE, 16)), "a virtual function has reached a window"
    with suppress(HostFault):
        value = load(arena, page)
        raise AssertionError(f"the configuration page of a virtual function reads {value:#x}")
