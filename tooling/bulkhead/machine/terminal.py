"""The user's terminal as the guest's: raw mode, Ctrl-] to leave; pipes and files work too.

Trust label: TOOL. Source: termios(3).
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from bulkhead.machine.channel import Loop

LEAVE = b"\x1d"  # Ctrl-]


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Raw mode during the block if `fd` is a terminal; its settings return whatever happens."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Keyboard:
    """Standard input in the machine's loop. `left`: Ctrl-] was typed; `ended`: there will be no more."""

    def __init__(self, loop: Loop, send: Callable[[bytes], None]) -> None:
        self.left = False
        self.ended = False
        self._pending = bytearray()
        self._loop = loop
        self._send = send
        self._fd = sys.stdin.fileno()
        self.is_terminal = os.isatty(self._fd)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Read standard input during the block."""
        self._loop.watch(self._fd, self._ready)
        try:
            with raw(self._fd):
                yield
        finally:
            if not self.ended and not self.left:
                self._loop.unwatch(self._fd)

    def flush(self) -> None:
        """Send what was typed. Not for use inside the loop: sending waits for an answer through it."""
        data, self._pending = bytes(self._pending), bytearray()
        if data:
            self._send(data)

    def line(self) -> bytes | None:
        """The next line that was typed, without its end; the rest if there will be no more; None: not yet, or none."""
        head, end, tail = self._pending.partition(b"\n")
        if not end and not (self.ended and head):
            return None
        self._pending = tail
        return bytes(head)

    def _ready(self) -> None:
        data = os.read(self._fd, 1024)
        if self.is_terminal and LEAVE in data:
            data = data[: data.index(LEAVE)]
            self.left = True
        elif not data:
            self.ended = True
        if self.left or self.ended:
            self._loop.unwatch(self._fd)
        self._pending += data
