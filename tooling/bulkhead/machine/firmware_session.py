"""A piped session with a firmware's shell: one line at each prompt, because firmware loses what comes too early.

Trust label: TOOL.
"""

from __future__ import annotations

import re
import time

from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor
from bulkhead.machine.terminal import Keyboard
from bulkhead.report.run import Reporter

# At the end of the output: the UEFI Shell's, on a volume or not, and U-Boot's.
PROMPT = re.compile(rb"(?:Shell|FS\d+:[^\r\n]*)> (?:\x1b\[\d+m)*$|=> $")
PROMPT_SPAN = 80
SILENCE_SECONDS = (
    60.0  # after which firmware that shows no prompt is taken to listen, or to have no more to say
)


def pipe_lines(host: Hypervisor, console: GuestConsole, reporter: Reporter, keyboard: Keyboard) -> None:
    """Give the firmware each line of standard input; ends with the firmware, or at the prompt after the last."""
    shown, sent, changed = 0, 0, time.monotonic()
    with keyboard.attached():
        while console.end is None:
            host.machine.pump(0.25)
            before, shown = shown, reporter.live_output(console.output, shown)
            console.check()
            changed = time.monotonic() if shown != before else changed
            if not listens(console.output, sent) and time.monotonic() - changed < SILENCE_SECONDS:
                continue
            line = keyboard.line()
            if line is not None:
                sent, changed = len(console.output), time.monotonic()
                console.send(line + b"\r")
            elif keyboard.ended:
                break
    reporter.live_output(console.output, shown)


def listens(output: bytes | bytearray, sent: int) -> bool:
    """Whether the output ends with a prompt that came after the first `sent` bytes, on a line of its own."""
    return b"\n" in output[sent:] and PROMPT.search(output[-PROMPT_SPAN:]) is not None
