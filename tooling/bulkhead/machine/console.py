"""The engine's console (UART0): kept text, and the table of patterns that must never appear there.

Trust label: TOOL.
"""

from __future__ import annotations

import time

PANIC_BEGIN = "BULKHEAD PANIC cpu="
PANIC_END = "BULKHEAD PANIC END"
PANIC_PATIENCE = 5.0  # seconds that a dump may take from its first line to its last

# Lines that mean the machine is lost, whoever printed them; `BULKHEAD PANIC` is handled with its dump.
BAD_PATTERNS = ("BULKHEAD STOP", "panicked at", "Synchronous Exception", "qemu: fatal")


class Console:
    """Everything UART0 printed so far."""

    def __init__(self, ignore: tuple[str, ...] = ()) -> None:
        """`ignore` names bad patterns that this run expects, spelt as in BAD_PATTERNS."""
        self.text = ""
        self._patterns = tuple(pattern for pattern in BAD_PATTERNS if pattern not in ignore)
        self._panic_seen: float | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes as they come from the UART."""
        self.text += data.decode("ascii", errors="replace")

    def panic_started(self) -> bool:
        """Whether a panic dump has begun."""
        return PANIC_BEGIN in self.text

    def panic_dump(self) -> str | None:
        """The panic dump once it is complete (or has stopped coming), else None."""
        begin = self.text.find(PANIC_BEGIN)
        if begin < 0:
            return None
        end = self.text.find(PANIC_END, begin)
        if end >= 0:
            return self.text[begin : end + len(PANIC_END)]
        if self._panic_seen is None:
            self._panic_seen = time.monotonic()
        return self.text[begin:] if time.monotonic() - self._panic_seen > PANIC_PATIENCE else None

    def bad_pattern(self) -> str | None:
        """The first line with a bad pattern, outside panic dumps, or None."""
        if self.panic_started():
            return None
        for line in self.text.splitlines():
            if any(pattern in line for pattern in self._patterns):
                return line
        return None
