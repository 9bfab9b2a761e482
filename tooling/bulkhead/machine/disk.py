"""A disk for a guest that keeps its memory to itself: where it may meet the host, and who opens that place.

Trust label: TOOL. The disk is a virtio block device (virtio 1.2) that reaches shared pages only: those of a pool.

A Linux with CONFIG_ARM_PKVM_GUEST and CONFIG_DMA_RESTRICTED_POOL shares the pool by itself. The device tree reserves it
as a `restricted-dma-pool` (Linux reserved-memory.yaml, shared-dma-pool.yaml) and says that the device uses it.

Debian's kernels have neither option. They are confined by the device tree: the device's bus can address the pool only
(`dma-ranges`, Devicetree Specification 0.4, 2.3.9), so that Linux makes the pool its ZONE_DMA, puts queues and bounce
buffers (swiotlb) there, and copies all data of the disk through them. A program of a few instructions that is measured
like the kernel shares the pool, page by page, and enters the kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
POOL_SIZE = 8 * MIB  # the first bytes of the guest's RAM
REGISTERS = (0x0A00_0000, 0x200)
SPI = 16  # INTID 48
LEVEL_HIGH = 4
SHARE = 0xC600_0003  # MEM_SHARE: KVM's id, which is Bulkhead's
SYSTEM_OFF = 0x8400_0008
BOUNCE_SLOTS = 2048  # of 2 KiB (Linux IO_TLB_SIZE): 4 MiB of the pool
# No contiguous area, which would offer the pool to user pages; nothing but DMA falls back on the pool.
APPEND = f"swiotlb={BOUNCE_SLOTS} cma=0 sysctl.vm.lowmem_reserve_ratio=1"
# No bounce buffers for devices without a pool, which Linux would share as well.
PKVM_APPEND = "swiotlb=noforce"
POOL_PHANDLE = 3

Nodes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Attachment:
    """What a disk adds to a guest: nodes of the device tree, words of the command line, a program before the kernel."""

    nodes: Nodes
    append: str
    first: bytes = b""


def _cells(*values: int) -> list[int]:
    return [half for value in values for half in (value >> 32, value & 0xFFFF_FFFF)]


_NAME = f"virtio_mmio@{REGISTERS[0]:x}"
_DEVICE: dict[str, Any] = {
    "compatible": "virtio,mmio",
    "reg": _cells(*REGISTERS),
    "interrupts": [0, SPI, LEVEL_HIGH],
    "dma-coherent": None,
}


def attach(pool: int, kernel: int, *, pkvm: bool) -> Attachment:
    """A disk for a kernel at `kernel`, its pool at `pool` (addresses in the guest); `pkvm`: the kernel shares it."""
    if pkvm:
        return Attachment(_restricted_pool(pool), PKVM_APPEND)
    return Attachment(_confined_bus(pool), APPEND, share_first(pool, POOL_SIZE, kernel))


def _restricted_pool(pool: int) -> Nodes:
    """The device, and memory set apart that it reaches through bounce buffers only."""
    reserved: dict[str, Any] = {"#address-cells": 2, "#size-cells": 2, "ranges": None}
    memory = {"compatible": "restricted-dma-pool", "reg": _cells(pool, POOL_SIZE), "phandle": POOL_PHANDLE}
    return {
        "/reserved-memory": reserved,
        f"/reserved-memory/pool@{pool:x}": memory,
        f"/{_NAME}": {**_DEVICE, "memory-region": POOL_PHANDLE},
    }


def _confined_bus(pool: int) -> Nodes:
    """The device, on a bus whose devices reach the pool and nothing else."""
    bus: dict[str, Any] = {"compatible": "simple-bus", "#address-cells": 2, "#size-cells": 2, "ranges": None}
    bus |= {"dma-ranges": _cells(pool, pool, POOL_SIZE)}
    return {"/shared": bus, f"/shared/{_NAME}": _DEVICE}


def share_first(pool: int, size: int, kernel: int) -> bytes:
    """The program that shares the pool and goes on to `kernel` with the registers of its own entry.

    The VM ends (SYSTEM_OFF) if a page cannot be shared. Instructions: Arm ARM DDI 0487, C6.2.
    """
    pool_literal, end_literal, kernel_literal = 24, 26, 28  # in words from the start
    words = (
        0xAA0003F3,  # 0      mov   x19, x0
        _ldr(20, pool_literal - 1),  # ldr x20, pool
        _ldr(21, end_literal - 2),  # ldr  x21, end
        0xEB15029F,  # 3  1:  cmp   x20, x21
        0x54000002 | 10 << 5,  # b.hs 2f
        0x52800000 | (SHARE & 0xFFFF) << 5,  # movz w0, #share[15:0]
        0x72A00000 | (SHARE >> 16) << 5,  # movk w0, #share[31:16], lsl #16
        0xAA1403E1,  # 7      mov   x1, x20
        0xAA1F03E2,  # 8      mov   x2, xzr
        0xAA1F03E3,  # 9      mov   x3, xzr
        0xD4000002,  # 10     hvc   #0
        0xB5000000 | 9 << 5,  # cbnz x0, 3f
        0x91400694,  # 12     add   x20, x20, #4096
        0x14000000 | (3 - 13) & 0x3FF_FFFF,  # b 1b
        0xAA1303E0,  # 14 2:  mov   x0, x19
        0xAA1F03E1,  # 15     mov   x1, xzr
        0xAA1F03E2,  # 16     mov   x2, xzr
        0xAA1F03E3,  # 17     mov   x3, xzr
        _ldr(4, kernel_literal - 18),  # ldr x4, kernel
        0xD61F0080,  # 19     br    x4
        0x52800000 | (SYSTEM_OFF & 0xFFFF) << 5,  # 20 3: movz w0, #off[15:0]
        0x72A00000 | (SYSTEM_OFF >> 16) << 5,  # movk w0, #off[31:16], lsl #16
        0xD4000002,  # 22     hvc   #0
        0x14000000,  # 23     b     .
    )
    return struct.pack(f"<{len(words)}I3Q", *words, pool, pool + size, kernel)


def _ldr(register: int, words: int) -> int:
    """`ldr x<register>` of the literal that lies so many words ahead."""
    return 0x58000000 | words << 5 | register
