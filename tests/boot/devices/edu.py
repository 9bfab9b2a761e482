"""QEMU's teaching device: a DMA engine with a 4 KiB buffer, and an interrupt. Source: QEMU docs/specs/edu.rst.

Trust label: TOOL.
"""

from __future__ import annotations

import time

from boot.devices.bus import load, store
from boot.devices.pci import Function
from bulkhead.image.memory_map import device

OPTION = "edu,dma_mask=0xffffffffffffffff"
"""The argument of `-device`: all address bits (the default reaches the lowest 256 MiB only)."""
VENDOR, DEVICE = 0x1234, 0x11E8
IDENTIFICATION, RAISE, ACKNOWLEDGE = 0x00, 0x60, 0x64
SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
START, TO_RAM, INTERRUPT = 1, 2, 4
BUFFER, BUFFER_SIZE = 0x4_0000, 4096
SECONDS = 10.0


class Edu:
    """The device behind `function`, whose BAR it places at `base`, an address of the PCIe memory window."""

    def __init__(self, function: Function, base: int = device("PCIE_MMIO").base) -> None:
        self.function = function
        self.base = base
        function.place(0, base)
        function.enable()
        assert self.register(IDENTIFICATION) & 0xFF == 0xED

    def register(self, offset: int, size: int = 4) -> int:
        """A register of BAR 0."""
        return load(self.function.bus, self.base + offset, size)

    def set_register(self, offset: int, value: int, size: int = 4) -> None:
        """Change a register of BAR 0."""
        store(self.function.bus, self.base + offset, value, size)

    def transfer(self, source: int, destination: int, count: int, command: int) -> None:
        """One DMA transfer; returns when the device says that it is done, which it does also if it failed."""
        self.set_register(SOURCE, source, 8)
        self.set_register(DESTINATION, destination, 8)
        self.set_register(COUNT, count, 8)
        self.set_register(COMMAND, START | command, 8)
        limit = time.monotonic() + SECONDS
        while self.register(COMMAND, 8) & START:
            assert time.monotonic() < limit, "the transfer does not end"

    def read_ram(self, address: int, count: int) -> None:
        """DMA from RAM into the device's buffer."""
        self.transfer(address, BUFFER, count, 0)

    def write_ram(self, address: int, count: int) -> None:
        """DMA from the device's buffer to RAM."""
        self.transfer(BUFFER, address, count, TO_RAM)

    def copy(self, source: int, destination: int, count: int) -> None:
        """What the device reads at `source` it writes to `destination`."""
        self.read_ram(source, count)
        self.write_ram(destination, count)

    def message(self, address: int, data: int) -> None:
        """Send one MSI: a store of `data`, 32 bits, by the device."""
        self.function.set_msi(address, data)
        self.set_register(RAISE, 1)
        self.set_register(ACKNOWLEDGE, 1)
