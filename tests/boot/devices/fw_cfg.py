"""QEMU's fw_cfg: its DMA register makes the device copy an item to any address. Source: QEMU docs/specs/fw_cfg.rst.

Trust label: TOOL.
"""

from __future__ import annotations

import struct

from boot.devices.bus import Registers
from bulkhead.image.memory_map import device

DMA_ADDRESS = 0x10
ERROR, READ, SELECT = 1, 2, 8
SIGNATURE = 0
"""The item that holds b"QEMU"."""


def prepare(bus: Registers, control: int, target: int, *, item: int = SIGNATURE, length: int = 4) -> bytes:
    """Write the control structure that makes `copy` to `control`: what then must get to the DMA register."""
    bus.write(control, struct.pack(">IIQ", item << 16 | SELECT | READ, length, target))
    return struct.pack(">Q", control)


def copy(bus: Registers, control: int, target: int, *, item: int = SIGNATURE, length: int = 4) -> int:
    """Have `length` bytes of an item written to `target`; the control structure goes to `control`, in host memory.

    Answers its control word afterwards: 0 done, bit 0 failed.
    """
    bus.write(device("FW_CFG").base + DMA_ADDRESS, prepare(bus, control, target, item=item, length=length))
    word: int = struct.unpack(">I", bus.read(control, 4))[0]
    return word
