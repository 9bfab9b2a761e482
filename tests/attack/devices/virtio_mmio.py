"""The host lets a virtio device on MMIO, which knows no SMMU, write to a VM's page and to the engine."""

from attack.arena import Arena
from attack.bus_masters import DEVICES
from boot.devices import virtio
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="device",
    against="P7",
    refused="the transports are in nobody's reach",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        "0x0A00_0000, 0x4000, Use.ENGINE",
        "0x0A00_0000, 0x4000, Use.BOTH",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window()
    victim = arena.victim()

    def strike(target: int) -> None:
        entropy = virtio.Mmio(arena)
        queue = entropy.start(work)
        queue.offer(target, 64)
        entropy.kick()
        arena.wait(lambda: queue.used > 0, "the entropy source")
        arena.write(work, bytes(PAGE))

    arena.withstands(victim, strike, "virtio")
