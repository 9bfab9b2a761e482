"""What the engine told its host program at boot (`BootInfo` in `engine/abi`). Trust label: TOOL."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = int.from_bytes(b"BULKHEAD", "little")
CPUS_MAX, HOST_RANGES = 8, 16
BOOT_INFO = struct.Struct(f"<3Q {CPUS_MAX}Q {2 * HOST_RANGES}Q 8Q 5Q")


@dataclass(frozen=True)
class BootInfo:
    """Physical addresses in bytes; ranges are (base, size)."""

    magic: int
    abi_version: int
    cpus: int
    mpidr: tuple[int, ...]
    host_ram: tuple[tuple[int, int], ...]
    split_block: tuple[int, int]
    host_image: tuple[int, int]
    initrd: tuple[int, int]
    device_tree: tuple[int, int]
    uart: int
    uart_intid: int
    gicd: int
    gicr: int
    counter_frequency: int

    @classmethod
    def decode(cls, data: bytes) -> BootInfo:
        """From the bytes in memory."""
        words = list(BOOT_INFO.unpack(data))
        head, words = words[:3], words[3:]
        mpidr, words = tuple(words[:CPUS_MAX]), words[CPUS_MAX:]
        pairs = list(zip(words[0:-5:2], words[1:-5:2], strict=True))
        ranges = tuple(pair for pair in pairs[:HOST_RANGES] if pair[1])
        split, image, initrd, tree = pairs[HOST_RANGES:]
        return cls(head[0], head[1], head[2], mpidr, ranges, split, image, initrd, tree, *words[-5:])
