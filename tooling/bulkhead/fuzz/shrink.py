"""Makes an input that shows a difference small, on the library of this process. Trust label: TOOL."""

from __future__ import annotations

import time
from collections.abc import Callable

from bulkhead.fuzz.target import Difference, Run

SECONDS = 60
"""After that the smallest so far must do."""


def shrink(data: bytes, differs: Callable[[bytes], bool] | None = None) -> bytes:
    """The input without the pieces that the difference does not need, and with zeroes where others are not needed."""
    still = differs or _differs
    if not still(data):
        return data
    deadline = time.monotonic() + SECONDS
    size = max(1, len(data) // 2)
    while size and time.monotonic() < deadline:
        shorter = _without(data, size, still, deadline)
        size = size // 2 if shorter == data else min(size, len(shorter))
        data = shorter
    for place in range(len(data)):
        plain = data[:place] + b"\0" + data[place + 1 :]
        if time.monotonic() < deadline and data[place] and still(plain):
            data = plain
    return data


def _without(data: bytes, size: int, still: Callable[[bytes], bool], deadline: float) -> bytes:
    place = 0
    while place < len(data) and time.monotonic() < deadline:
        shorter = data[:place] + data[place + size :]
        if still(shorter):
            data = shorter
        else:
            place += size
    return data


def _differs(data: bytes) -> bool:
    try:
        Run(data).execute()
    except Difference:
        return True
    return False
