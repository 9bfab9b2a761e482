"""Numbers that are worth trying as arguments: few that fit, so that steps meet, and many that nearly do.

Trust label: TOOL.
"""

from __future__ import annotations

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.spec.state import Kind

SLOTS = (0, 1, 2, 63)
"""VM slots in use; few, so that calls meet."""
RAM = 0x4000_0000
TOP = 1 << 39
RANGES = (
    (RAM, 16 << 20, 0, 0, 0, 0, 0, 0),
    (0, PAGE, RAM, 4 << 20, TOP - BLOCK, BLOCK, 0, 0),
    (0, TOP, 0, 0, 0, 0, 0, 0),
    (RAM, PAGE, RAM + PAGE, PAGE, RAM + (1 << 30), PAGE, TOP - PAGE, PAGE),
)
"""RAM ranges that vm_create accepts, base and size in turn."""
NEARLY = (
    (TOP - PAGE, 2 * PAGE, 0, 0, 0, 0, 0, 0),
    (TOP, PAGE, 0, 0, 0, 0, 0, 0),
    (RAM, PAGE, RAM, PAGE, 0, 0, 0, 0),
    (RAM + PAGE, PAGE, RAM, PAGE, 0, 0, 0, 0),
    (0, 0, RAM, PAGE, 0, 0, 0, 0),
    (RAM, PAGE, PAGE, 0, 0, 0, 0, 0),
)
"""RAM ranges that it refuses, each for one reason: too long, beyond the end, overlapping, descending, a gap, a base."""
IPAS = (RAM, RAM + PAGE, RAM + BLOCK, RAM + 2 * BLOCK, RAM + (1 << 30), 0, TOP - PAGE, TOP - BLOCK)
"""Addresses, most of them in those ranges; few, so that they meet."""
ODD = (
    0, 1, 2, 7, 8, 9, 63, 64, PAGE - 1, PAGE, BLOCK, 1 << 38, TOP, 1 << 48, 1 << 63, (1 << 64) - 1, (1 << 64) - PAGE,
)  # fmt: skip
"""Numbers that are seldom right."""
OF_BLOCKS = {"NEEDS_SPLIT": Kind.HOST, "NOT_CLEARED": Kind.UNCLEARED}
"""Status → kind of the blocks that lead to it."""
FRAMES = ("root", "frame", "table", "host_table", "vcpu")
"""Arguments that are addresses of frames."""
NUMBERS = {
    "level": (0, 1, 2, 3, 4), "mode": (0, 1, 2), "vcpus": (0, 1, 8, 9), "flags": (1,), "index": (0, 1, 7, 8),
    "entry": (RAM + 2, TOP, 1), "zero2": (1, 1 << 63), "zero3": (1, 1 << 63), "context": (0, (1 << 64) - 1),
}  # fmt: skip
"""Arguments that are other numbers → values worth trying."""
BOUNDS = (0, 1, PAGE, RAM, RAM + 1, 4 << 20, TOP, TOP - PAGE, PAGE // 2, TOP + PAGE)
"""Bounds of RAM ranges worth trying."""
