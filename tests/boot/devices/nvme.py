"""An NVMe controller driven through its admin queue. Source: NVM Express Base Specification 2.0, 3.1.3, 3.5.1, 5.17.

Trust label: TOOL.
"""

from __future__ import annotations

import struct
import time

from boot.devices.bus import load, store
from boot.devices.pci import Function
from bulkhead.image.memory_map import device

OPTION = "nvme,serial=1"
CONFIGURATION, STATUS = 0x14, 0x1C
QUEUE_SIZES, SUBMISSION, COMPLETION = 0x24, 0x28, 0x30
TAIL, HEAD = 0x1000, 0x1004
ENABLE = 1 | 6 << 16 | 4 << 20
READY, FATAL = 1, 2
ENTRIES = 4
IDENTIFY, CONTROLLER = 6, 1
COMMAND_SIZE, COMPLETION_SIZE = 64, 16
SECONDS = 10.0


def identify(target: int, identifier: int = 1) -> bytes:
    """The command that makes the controller write 4 KiB about itself to `target`."""
    head = struct.pack("<BBHIQQQQ", IDENTIFY, 0, identifier, 0, 0, 0, target, 0)
    return (head + struct.pack("<I", CONTROLLER)).ljust(COMMAND_SIZE, b"\0")


class Nvme:
    """The controller behind `function`, whose BAR it places at `base`, an address of the PCIe memory window."""

    def __init__(self, function: Function, base: int = device("PCIE_MMIO").base + 0x10_0000) -> None:
        self.bus = function.bus
        self.base = base
        self.tail = 0
        function.place(0, base)
        function.enable()

    @property
    def status(self) -> int:
        """Controller status: bit 0 ready, bit 1 fatal."""
        return load(self.bus, self.base + STATUS)

    @property
    def failed(self) -> bool:
        """Whether the controller has given up, as it does when it cannot reach a queue."""
        return bool(self.status & FATAL)

    def start(self, submission: int, completion: int) -> None:
        """Enable the controller with its admin queues at these addresses, page-aligned, of ENTRIES entries."""
        store(self.bus, self.base + CONFIGURATION, 0)
        self._wait(0, READY)
        store(self.bus, self.base + QUEUE_SIZES, (ENTRIES - 1) << 16 | (ENTRIES - 1))
        for register, address in ((SUBMISSION, submission), (COMPLETION, completion)):
            store(self.bus, self.base + register, address, 8)
        store(self.bus, self.base + CONFIGURATION, ENABLE)
        self._wait(READY, READY)
        self.tail = 0

    def ring(self) -> None:
        """Tell the controller that one more command is in its submission queue, whoever put it there."""
        self.tail = (self.tail + 1) % ENTRIES
        store(self.bus, self.base + TAIL, self.tail)

    def settle(self, seconds: float = 0.3) -> None:
        """Give the controller time for what it was told; returns early if it fails."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not self.failed:
            time.sleep(0.01)

    def _wait(self, value: int, mask: int) -> None:
        limit = time.monotonic() + SECONDS
        while self.status & mask != value:
            assert time.monotonic() < limit, f"controller status {self.status:#x}"
