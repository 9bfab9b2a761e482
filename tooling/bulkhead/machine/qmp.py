"""A blocking client of the QEMU Machine Protocol (QEMU: docs/interop/qmp-spec).

Trust label: TOOL. Own code rather than the `qemu.qmp` package: that one is asyncio with a per-thread event
loop, its synchronous wrapper is marked legacy, and while it waits for an answer nobody would drain the serial
ports on which QEMU may be blocked. What is needed here is one JSON line out, one in, served by the machine's
own loop.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from bulkhead.errors import MachineError
from bulkhead.machine.channel import Channel

Wait = Callable[[Callable[[], bool], float, str], None]


class Qmp:
    """Requests over `channel`; `wait(condition, seconds, what)` is the machine's own bounded wait."""

    def __init__(self, channel: Channel, wait: Wait, timeout: float = 20.0) -> None:
        self.events: list[dict[str, Any]] = []
        self._channel = channel
        self._wait = wait
        self._timeout = timeout
        self._buffer = bytearray()
        self._greeted = False
        self._answers: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(1)
        channel.deliver_to(self._receive)

    def connect(self) -> None:
        """Wait for the greeting and leave the negotiation mode."""
        self._wait(lambda: self._greeted, self._timeout, "QEMU's greeting")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; its `return` value. MachineError with QEMU's description if refused."""
        number = next(self._ids)
        request = {"execute": command, "arguments": arguments, "id": number}
        self._channel.send(json.dumps(request).encode() + b"\n")
        self._wait(lambda: number in self._answers, self._timeout, f"the answer to {command}")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise MachineError(f"QEMU refused {command}: {answer['error'].get('desc')}", where="QMP")
        return answer["return"]

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        while b"\n" in self._buffer:
            line, _, rest = self._buffer.partition(b"\n")
            self._buffer = bytearray(rest)
            if line.strip():
                self._dispatch(json.loads(line))

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "QMP" in message:
            self._greeted = True
        elif "event" in message:
            self.events.append(message)
        elif "id" in message:
            self._answers[message["id"]] = message
