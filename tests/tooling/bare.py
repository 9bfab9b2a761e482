"""Tiny bare-metal programs for the tests of the QEMU driver: they run on the real emulated machine at EL2."""

from __future__ import annotations

import struct
from pathlib import Path

# Arm ARM C6.2 encodings. x0 walks over a text behind the code, x1 is UART0's data register.
PRINT = [
    0x10000120,  # adr x0, . + 36
    0xD2A12001,  # movz x1, #0x0900, lsl #16
    0x38401402,  # ldrb w2, [x0], #1
    0x34000062,  # cbz w2, . + 12
    0x39000022,  # strb w2, [x1]
    0x17FFFFFD,  # b . - 12
    0xD503205F,  # wfe
    0x17FFFFFF,  # b . - 4
    0xD503201F,  # nop
]


def bare_image(path: Path, text: str) -> Path:
    """Write an arm64 Image (booting.rst) that prints `text` on UART0 and then waits for ever."""
    body = struct.pack(f"<{len(PRINT)}I", *PRINT) + text.encode() + b"\0"
    size = 64 + len(body)
    header = struct.pack("<IIQQQQQQ4sI", 0x14000010, 0, 0, size, 0, 0, 0, 0, b"ARM\x64", 0)
    path.write_bytes(header + body)
    return path
