"""The host turns on the virtual functions of a listed one, and reaches for their configuration and their queues."""

from contextlib import suppress

from attack.arena import Arena
from boot.devices import nvme, pci
from boot.devices.bus import load, store
from bulkhead.attack import Edit, Machine, attack
from bulkhead.conformance import HostFault
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.image.memory_map import device

COUNT = 2
BARS = device("PCIE_MMIO").base + 0x100_0000
STRIDE = 0x4000
"""Bytes of BAR 0 of each."""


@attack(
    by="device",
    against="P5",
    refused="their configuration pages are in nobody's reach, and they come up without leave to master the bus",
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
    parent = pci.function(arena, 1)
    parent.enable()
    pages = parent.virtual_functions(COUNT, BARS)
    for page in pages:
        with suppress(HostFault):
            value = load(arena, page)
            raise AssertionError(f"the configuration page of a virtual function reads {value:#x}")

    def strike(target: int) -> None:
        for number in range(COUNT):
            base = BARS + STRIDE * number
            for register, address in ((nvme.SUBMISSION, work), (nvme.COMPLETION, target)):
                store(arena, base + register, address, 8)
            store(arena, base + nvme.QUEUE_SIZES, 3 << 16 | 3)
            store(arena, base + nvme.CONFIGURATION, nvme.ENABLE)
            store(arena, base + nvme.TAIL, 1)

    arena.withstands(victim, strike, "a virtual function")
