"""Devices programmed by the host, register by register, as a driver would: for the tests of DMA, here and in attacks.

Everything takes a `Registers`, which a `Rig` or `Booted` is: `read(address, length)` and `write(address, data)` are
single accesses by the host for lengths of 1, 2, 4 and 8 bytes, and raise LinkError with code 1 if the access faults.
Nothing here knows of the engine. Trust label: TOOL.

| module | what | `QemuConfig(devices=..)` |
|---|---|---|
| `pci` | configuration space, BARs, MSI | |
| `edu` | the DMA engine of QEMU's teaching device | `edu.OPTION` |
| `nvme` | admin queue of an NVMe controller | `nvme.OPTION` |
| `virtio` | a split queue: the entropy source writes where a descriptor says | `virtio.PCI_OPTION`, `.MMIO_OPTION` |
| `fw_cfg` | its DMA register | always there |
| `its` | GIC ITS: tables and commands | always there |

For example::

    with machines.boot(QemuConfig(kernel=machines.image(), devices=(edu.OPTION,))) as booted:
        device = edu.Edu(pci.function(booted, slot=1))
        booted.ok("dma_allow", block)
        device.copy(source, target, 16)  # two DMA transfers: from `source` and to `target`
"""

from __future__ import annotations

from typing import Protocol


class Registers(Protocol):
    """Single accesses by the host."""

    def read(self, address: int, length: int) -> bytes:
        """Load."""

    def write(self, address: int, data: bytes) -> None:
        """Store."""


def load(bus: Registers, address: int, size: int = 4) -> int:
    """A little-endian register of `size` bytes."""
    return int.from_bytes(bus.read(address, size), "little")


def store(bus: Registers, address: int, value: int, size: int = 4) -> None:
    """Write a little-endian register of `size` bytes."""
    bus.write(address, value.to_bytes(size, "little"))
