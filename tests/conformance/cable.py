"""A cable between a board (QEMU's pseudo-terminal) and the tests, which damages what it is told. Trust label: TOOL."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import tty
from collections.abc import Callable

from bulkhead.conformance.backends.line import BAUD_RATE, PseudoTerminal, open_port
from bulkhead.errors import MachineError
from bulkhead.machine.channel import Channel, Loop

Damage = Callable[[bytes], bytes]
"""What becomes of a frame without its closing zero, or of that zero."""


def intact(data: bytes) -> bytes:
    """A good cable."""
    return data


class Cable:
    """A `Device`. `to_board` and `from_board` change frames on their way, zeros included; `has_power_switch` off: the
    board cannot be turned off and on. Turning it on repairs the cable.
    """

    name = "cable"

    def __init__(self, board: PseudoTerminal) -> None:
        self.board = board
        self.to_board: Damage = intact
        self.from_board: Damage = intact
        self.has_power_switch = True
        self.power_cycles = 0
        self.loop = Loop()
        self._ends: list[int] = []
        self._thread: threading.Thread | None = None

    def open(self) -> Channel:
        """See Device: plugs the cable in."""
        self.unplug()
        board = os.open(self.board.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        ours, theirs = os.openpty()
        for end in (board, theirs):
            tty.setraw(end)
        self._ends = [board, ours]
        self._thread = threading.Thread(target=self._carry, args=(board, ours), daemon=True)
        self._thread.start()
        channel = open_port(os.ttyname(theirs), BAUD_RATE, self.loop)
        os.close(theirs)
        return channel

    def unplug(self) -> None:
        """Pulls the plug."""
        ends, self._ends = self._ends, []
        if self._thread:
            self._thread.join(5)
        for end in ends:
            os.close(end)

    def _carry(self, board: int, ours: int) -> None:
        """Moves frames in both directions until the plug is pulled."""
        frames = {board: bytearray(), ours: bytearray()}
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for end in frames:
                selector.register(end, selectors.EVENT_READ)
            while self._ends:
                self.board.loop.step(0)
                for key, _ in selector.select(0.02):
                    frames[key.fd] += os.read(key.fd, 65536)
                *whole, rest = bytes(frames[board]).split(b"\0")
                frames[board] = bytearray(rest)
                for frame in whole:
                    self._put(ours, self.from_board(frame) + self.from_board(b"\0"))
                *whole, rest = bytes(frames[ours]).split(b"\0")
                frames[ours] = bytearray(rest)
                for frame in whole:
                    self._put(board, self.to_board(frame) + self.to_board(b"\0"))

    @staticmethod
    def _put(end: int, data: bytes) -> None:
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(end, data) :]

    def power_cycle(self) -> None:
        """See Device."""
        self.unplug()
        if not self.has_power_switch:
            raise MachineError("this board has no power switch", where=self.name)
        self.power_cycles += 1
        self.to_board = self.from_board = intact
        self.board.power_cycle()

    def explain(self) -> str:
        """See Device: nothing."""
        return ""

    def close(self) -> None:
        """See Device: the board stays on."""
        self.unplug()
