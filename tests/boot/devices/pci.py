"""PCIe functions through their configuration page (ECAM). Source: PCI Express Base Specification, 7.2.2, 7.5, 7.7.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from boot.devices.bus import Registers, load, store
from bulkhead.image.memory_map import device

IDS, COMMAND, HEADER, BAR0, CAPABILITIES = 0x00, 0x04, 0x0E, 0x10, 0x34
MEMORY, MASTER = 2, 4
STATUS_CAPABILITIES = 1 << 20
POWER, ASLEEP = 0x01, 3
MSI = 0x05
MSI_ENABLE, MSI_64 = 1 << 16, 1 << 23
EXPRESS, DEVICE_CONTROL, FUNCTION_RESET = 0x10, 8, 1 << 15
EXTENDED, LAST = 0x100, 0xFFC
SRIOV = 0x10
SRIOV_CONTROL, SRIOV_COUNT, SRIOV_PLACES, SRIOV_BAR = 0x08, 0x10, 0x14, 0x24
SRIOV_ENABLE, SRIOV_MEMORY = 1, 8


def page(slot: int, function: int = 0, bus: int = 0) -> int:
    """Physical address of the configuration page of a function."""
    return device("PCIE_ECAM").base + (bus << 20 | slot << 15 | function << 12)


@dataclass(frozen=True)
class Function:
    """A function whose configuration page the host can reach."""

    bus: Registers
    page: int

    def config(self, offset: int, size: int = 4) -> int:
        """A register of configuration space."""
        return load(self.bus, self.page + offset, size)

    def set_config(self, offset: int, value: int, size: int = 4) -> None:
        """Change a register of configuration space."""
        store(self.bus, self.page + offset, value, size)

    @property
    def ids(self) -> tuple[int, int]:
        """Vendor and device id."""
        word = self.config(IDS)
        return word & 0xFFFF, word >> 16

    def place(self, bar: int, address: int) -> None:
        """Put BAR number `bar` at a PCI address below 4 GiB, whatever its size."""
        kind = self.config(BAR0 + 4 * bar)
        self.set_config(BAR0 + 4 * bar, address)
        if kind & 7 == 4:
            self.set_config(BAR0 + 4 * bar + 4, 0)

    def enable(self, command: int = MEMORY | MASTER) -> None:
        """Let the function decode memory and master the bus."""
        self.set_config(COMMAND, command, 2)

    def sleep(self) -> None:
        """To D3hot (Power Management Control/Status), after it has been made silent."""
        self.enable(0)
        self.set_config(self._power_control, ASLEEP, 2)

    def wake(self) -> None:
        """Back to D0, and let it master the bus again."""
        self.set_config(self._power_control, 0, 2)
        self.enable()

    @property
    def _power_control(self) -> int:
        return next(offset for kind, offset in self.capabilities() if kind == POWER) + 4

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """(id, offset) of each capability."""
        if self.config(COMMAND) & STATUS_CAPABILITIES:
            offset = self.config(CAPABILITIES, 1)
            while offset:
                yield self.config(offset, 1), offset
                offset = self.config(offset + 1, 1)

    def extended(self, wanted: int) -> int:
        """Offset of the first extended capability of a kind. StopIteration if there is none."""
        offset = EXTENDED
        while offset:
            head = self.config(offset)
            if head & 0xFFFF == wanted:
                return offset
            offset = head >> 20 & LAST
        raise StopIteration(wanted)

    def virtual_functions(self, count: int, base: int = 0) -> list[int]:
        """Turn on `count` virtual functions and their memory, from `base` on: their configuration pages (ARI)."""
        offset = self.extended(SRIOV)
        self.set_config(offset + SRIOV_BAR, base)
        self.set_config(offset + SRIOV_COUNT, count)
        self.set_config(offset + SRIOV_CONTROL, SRIOV_ENABLE | SRIOV_MEMORY)
        places = self.config(offset + SRIOV_PLACES)
        first, stride = places & 0xFFFF, places >> 16
        return [self.page + (first + stride * index << 12) for index in range(count)]

    def set_msi(self, address: int, data: int) -> None:
        """Make the function's one message a store of `data` (16 bits) to `address`, and turn messages on."""
        offset = next(place for kind, place in self.capabilities() if kind == MSI)
        self.set_config(offset + 4, address & 0xFFFF_FFFF)
        wide = bool(self.config(offset) & MSI_64)
        if wide:
            self.set_config(offset + 8, address >> 32)
        self.set_config(offset + (12 if wide else 8), data, 2)
        self.set_config(offset + 2, MSI_ENABLE >> 16, 2)


def function(bus: Registers, slot: int, number: int = 0) -> Function:
    """The function at a place of bus 0. QEMU numbers devices from slot 1 on in the order of `-device`."""
    return Function(bus, page(slot, number))
