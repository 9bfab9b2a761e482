"""A virtio entropy source with one split queue, over PCI or MMIO. Source: VIRTIO 1.2, 2.7, 4.1.4, 4.2.2, 5.4.

It writes random bytes to any address that a descriptor names. QEMU lets virtio pass by the SMMU unless the device has
`iommu_platform=on`. Over MMIO start QEMU with `-global virtio-mmio.force-legacy=false` as well. Trust label: TOOL.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from boot.devices.bus import Registers, load, store
from boot.devices.pci import BAR0, Function
from bulkhead.image.memory_map import device

PCI_OPTION, MMIO_OPTION = "virtio-rng-pci", "virtio-rng-device"
MODERN_MMIO = ("-global", "virtio-mmio.force-legacy=false")
VENDOR = 0x1AF4
NETWORK, ENTROPY = 1, 4
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
VERSION_1_HIGH = 1
"""Bit 32 of the features: VIRTIO_F_VERSION_1."""
SIZE = 4
WRITE_ONLY = 2
AVAILABLE, USED = 0x100, 0x200
"""Where the rings lie in the page of the queue; the descriptors are at its start."""

# PCI: capability id, types, and the common configuration.
VENDOR_SPECIFIC, COMMON, NOTIFY = 0x09, 1, 2
# MMIO.
TRANSPORTS, STRIDE = 32, 0x200


@dataclass
class Queue:
    """A page of host memory with the rings of a queue of SIZE entries."""

    bus: Registers
    page: int
    offered: int = 0

    def offer(self, target: int, length: int) -> None:
        """Offer one buffer for the device to write."""
        slot = self.offered % SIZE
        self.bus.write(self.page + 16 * slot, struct.pack("<QIHH", target, length, WRITE_ONLY, 0))
        self.bus.write(self.page + AVAILABLE + 4 + 2 * slot, struct.pack("<H", slot))
        self.offered += 1
        self.bus.write(self.page + AVAILABLE, struct.pack("<HH", 0, self.offered))

    @property
    def used(self) -> int:
        """Buffers that the device has given back."""
        return load(self.bus, self.page + USED + 2, 2)


class Pci:
    """The entropy source as a PCI function; BAR 4 is placed at `base`."""

    def __init__(self, function: Function, base: int = device("PCIE_MMIO").base + 0x20_0000) -> None:
        self.bus = function.bus
        places: dict[int, tuple[int, int, int]] = {}
        for kind, offset in function.capabilities():
            if kind == VENDOR_SPECIFIC:
                structure, bar = function.config(offset + 3, 1), function.config(offset + 4, 1)
                places[structure] = (bar, function.config(offset + 8), function.config(offset + 16))
        bar, common, _ = places[COMMON]
        assert function.config(BAR0 + 4 * bar) & 1 == 0
        function.place(bar, base)
        function.enable()
        self.common = base + common
        _, notify, multiplier = places[NOTIFY]
        self.notify, self.multiplier = base + notify, multiplier

    def start(self, page: int) -> Queue:
        """Reset, negotiate VERSION_1 alone, and use the zeroed page as queue 0."""
        at = self.common
        for status in (0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER):
            store(self.bus, at + 0x14, status, 1)
        for select, features in ((0, 0), (1, VERSION_1_HIGH)):
            store(self.bus, at + 0x08, select)
            store(self.bus, at + 0x0C, features)
        store(self.bus, at + 0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK, 1)
        assert load(self.bus, at + 0x14, 1) & FEATURES_OK
        store(self.bus, at + 0x16, 0, 2)
        store(self.bus, at + 0x18, SIZE, 2)
        self.notify += load(self.bus, at + 0x1E, 2) * self.multiplier
        for register, address in ((0x20, page), (0x28, page + AVAILABLE), (0x30, page + USED)):
            store(self.bus, at + register, address & 0xFFFF_FFFF)
            store(self.bus, at + register + 4, address >> 32)
        store(self.bus, at + 0x1C, 1, 2)
        store(self.bus, at + 0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, 1)
        return Queue(self.bus, page)

    def kick(self) -> None:
        """Notify queue 0."""
        store(self.bus, self.notify, 0, 2)


class Mmio:
    """The entropy source, or another kind of device, on an MMIO transport: the first that has one."""

    def __init__(
        self, bus: Registers, base: int = device("VIRTIO_MMIO").base, *, kind: int = ENTROPY
    ) -> None:
        self.bus = bus
        places = [base + STRIDE * index for index in range(TRANSPORTS)]
        self.base = next(place for place in places if load(bus, place + 0x08) == kind)

    def start(self, page: int) -> Queue:
        """Reset, negotiate VERSION_1 alone, and use the zeroed page as queue 0."""
        at = self.base
        assert load(self.bus, at + 0x04) == 2, "give QEMU MODERN_MMIO"
        for status in (0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER):
            store(self.bus, at + 0x70, status)
        for select, features in ((0, 0), (1, VERSION_1_HIGH)):
            store(self.bus, at + 0x24, select)
            store(self.bus, at + 0x20, features)
        store(self.bus, at + 0x70, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        store(self.bus, at + 0x30, 0)
        store(self.bus, at + 0x38, SIZE)
        for register, address in ((0x80, page), (0x90, page + AVAILABLE), (0xA0, page + USED)):
            store(self.bus, at + register, address & 0xFFFF_FFFF)
            store(self.bus, at + register + 4, address >> 32)
        store(self.bus, at + 0x44, 1)
        store(self.bus, at + 0x70, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        return Queue(self.bus, page)

    def kick(self) -> None:
        """Notify queue 0."""
        store(self.bus, self.base + 0x50, 0)
