"""Machine code of guests, A64 words (Arm ARM DDI 0487 C6)."""

from __future__ import annotations

import struct


def code(*words: int) -> bytes:
    """Instructions as bytes."""
    return struct.pack(f"<{len(words)}I", *words)


WFI = 0xD503207F
HVC = 0xD4000002


def branch(words: int) -> int:
    """B to `words` instructions further on (backwards if negative)."""
    return 0x14000000 | words & 0x3FFFFFF


WAIT = code(WFI, branch(-1))
"""WFI for ever."""
