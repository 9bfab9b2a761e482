"""The GIC's interrupt translation service: tables in RAM that its commands write. Source: Arm IHI 0069, 5.3.9, 12.19.

Trust label: TOOL.
"""

from __future__ import annotations

import struct

from boot.devices.bus import Registers, load, store
from bulkhead.image.memory_map import device

CONTROL, COMMANDS, WRITER, READER, TABLES = 0x00, 0x80, 0x88, 0x90, 0x100
ENABLE = 1
VALID = 1 << 63
TYPE_SHIFT, DEVICE_TABLE = 56, 1
MAP_DEVICE = 0x08
COMMAND_SIZE = 32


class Its:
    """The ITS; `base` is its control frame."""

    def __init__(self, bus: Registers, base: int = device("GIC_ITS").base) -> None:
        self.bus = bus
        self.base = base

    def start(self, commands: int, table: int) -> None:
        """Enable it with its command queue in the host's page `commands` and its device table in the page `table`."""
        store(self.bus, self.base + CONTROL, 0)
        for index in range(8):
            register = self.base + TABLES + 8 * index
            if load(self.bus, register, 8) >> TYPE_SHIFT & 7 == DEVICE_TABLE:
                store(self.bus, register, VALID | table, 8)
        store(self.bus, self.base + COMMANDS, VALID | commands, 8)
        store(self.bus, self.base + WRITER, 0, 8)
        store(self.bus, self.base + CONTROL, ENABLE)
        self.commands = commands

    def map_device(self, number: int, translations: int) -> None:
        """MAPD: writes the entry of device `number`, which names the table at `translations` (a multiple of 256)."""
        words = (MAP_DEVICE | number << 32, 0, VALID | translations, 0)
        self.bus.write(self.commands, struct.pack("<4Q", *words))
        store(self.bus, self.base + WRITER, COMMAND_SIZE, 8)
