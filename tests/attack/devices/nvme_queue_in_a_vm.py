"""The host puts the completion queue of an NVMe controller into a VM's page and into the engine."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, NVME
from boot.devices import nvme, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="device",
    against="P7",
    refused="the SMMU translates by tables that map windows only",
    removed=Edit(
        "engine/image/src/smmu.rs",
        "const STAGE_2_ONLY: u64 = 0b110 << 1;",
        "const STAGE_2_ONLY: u64 = 0b100 << 1;",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window(opened=True)
    victim = arena.victim()

    def strike(target: int) -> None:
        arena.write(work, bytes(PAGE))
        arena.write(work, nvme.identify(work + 2 * PAGE))
        controller = nvme.Nvme(pci.function(arena, NVME))
        controller.start(work, target)
        controller.ring()
        controller.settle()

    arena.withstands(victim, strike, "NVMe")
