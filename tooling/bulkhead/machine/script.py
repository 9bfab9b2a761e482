"""Running commands in a guest's shell over its serial port, and getting exactly what they printed.

Trust label: TOOL. The terminal's echo and the prompt are switched off first; the script travels in base64, so
that its text never meets the terminal's line editing; the marks are assembled by the guest (`printf '%s%s'`),
so that an echo of the command that makes them cannot be mistaken for them.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass

LINE = 512  # characters of a line; a Linux terminal takes lines of up to 4095 (termios(3), canonical mode)
PLACE = "/tmp/bulkhead-script"


@dataclass(frozen=True)
class ScriptResult:
    """What a script printed (stdout and stderr, as bytes) and its exit status."""

    output: bytes
    status: int


class ScriptRun:
    """The dialogue with one shell. The caller moves the bytes: `greeting`, then `commands`, then `result`."""

    def __init__(self, script: str) -> None:
        self.script = script
        self._mark = secrets.token_hex(8)

    def greeting(self) -> bytes:
        """A line that makes a listening shell show that it listens. May be sent again and again.

        A serial port that is just being opened loses what came before: the mark stands at the line's start, so that
        only a shell that has read the whole line can show it.
        """
        answer = "printf '%s%s\\n' BULKHEAD-READY- $BULKHEAD"
        return f" BULKHEAD={self._mark}; stty -echo -onlcr; PS1=; PS2=; {answer}\n".encode()

    def ready(self, console: bytes | bytearray) -> bool:
        """Whether the shell has answered."""
        return f"BULKHEAD-READY-{self._mark}".encode() in console

    def commands(self) -> bytes:
        """Lines that carry the script over and run it."""
        text = base64.b64encode(self.script.encode() + b"\n").decode()
        lines = [text[start : start + LINE] for start in range(0, len(text), LINE)]
        run = f"printf '%s%s\\n' BULKHEAD-BEGIN- {self._mark}; sh {PLACE} </dev/null 2>&1;"
        end = f"printf '%s%s %d\\n' BULKHEAD-END- {self._mark} $?"
        send = [f" mkdir -p /tmp; base64 -d > {PLACE} <<'{self._mark}'", *lines, self._mark]
        return "\n".join([*send, f" {run} {end}", ""]).encode()

    def result(self, console: bytes | bytearray) -> ScriptResult | None:
        """The result once the whole of it is in `console`, everything the guest printed so far."""
        begin = self._begin(console)
        mark = f"BULKHEAD-END-{self._mark} ".encode()
        end = console.find(mark, begin) if begin >= 0 else -1
        close = console.find(b"\n", end) if end >= 0 else -1
        if close < 0:
            return None
        return ScriptResult(bytes(console[begin:end]), int(console[end + len(mark) : close]))

    def partial(self, console: bytes | bytearray) -> bytes:
        """What the script has printed so far."""
        begin = self._begin(console)
        return bytes(console[begin:]) if begin >= 0 else b""

    def _begin(self, console: bytes | bytearray) -> int:
        """Where the script's output starts, -1 if it has not begun."""
        mark = f"BULKHEAD-BEGIN-{self._mark}".encode()
        start = console.find(mark)
        return console.find(b"\n", start) + 1 or -1 if start >= 0 else -1
