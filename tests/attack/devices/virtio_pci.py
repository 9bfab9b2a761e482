"""The host lets a virtio function of PCIe, which passes by the SMMU, write to a VM's page and to the engine."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, VIRTIO
from boot.devices import pci, virtio
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="device",
    against="P7",
    refused="functions that are not on the list are silent, and their configuration is in nobody's reach",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        '    PciFunction("EDU"',
        '    PciFunction("RNG", 0x1AF4, 0x1005, ""),\n    PciFunction("EDU"',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window()
    victim = arena.victim()

    def strike(target: int) -> None:
        entropy = virtio.Pci(pci.function(arena, VIRTIO))
        queue = entropy.start(work)
        queue.offer(target, 64)
        entropy.kick()
        arena.wait(lambda: queue.used > 0, "the entropy source")
        arena.write(work, bytes(PAGE))

    arena.withstands(victim, strike, "virtio")
