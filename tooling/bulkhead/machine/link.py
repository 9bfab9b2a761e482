"""Requests and events over the management link (UART1), the same for the hypervisor and the test payload.

Trust label: TOOL. request [seq >= 1, op, {args}] → reply [seq, 0, {result}] or [seq, code, {"error": text}];
events [0, name, {..}] come unasked.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import cbor2

from bulkhead.errors import MachineTimeout
from bulkhead.machine.channel import Channel
from bulkhead.machine.errors import HostProgramPanic, LinkError
from bulkhead.machine.framing import Deframer, encode_body, encode_frame
from bulkhead.machine.qmp import Wait

Fields = dict[str, Any]
Handler = Callable[[Fields], None]


class Link:
    """One end of the link. `wait` is the machine's bounded wait, which also notices that the machine died."""

    def __init__(self, channel: Channel, wait: Wait) -> None:
        self._channel = channel
        self._wait = wait
        self._deframer = Deframer()
        self._sequence = itertools.count(1)
        self._replies: dict[int, tuple[int, Fields]] = {}
        self._expected: set[int] = set()
        self._events: deque[tuple[str, Fields]] = deque()
        self._handlers: dict[str, Handler] = {"panic": _panicked}
        channel.deliver_to(self._receive)

    @property
    def bad_frames(self) -> int:
        """Damaged or senseless frames received so far."""
        return self._deframer.bad_frames

    @property
    def unfinished(self) -> int:
        """Bytes received of a frame whose end is missing."""
        return self._deframer.unfinished

    def call(self, operation: str, arguments: Fields | None = None, *, timeout: float = 30.0) -> Fields:
        """Send a request and return its result. Raises LinkError if refused, MachineTimeout if unanswered."""
        return self.call_encoded(operation, cbor2.dumps(arguments or {}), timeout=timeout)

    def call_encoded(self, operation: str, arguments: bytes, *, timeout: float = 30.0) -> Fields:
        """As `call`, with any bytes where the encoded arguments belong."""
        number = next(self._sequence)
        self._expected.add(number)
        self._channel.send(encode_body(b"\x83" + cbor2.dumps(number) + cbor2.dumps(operation) + arguments))
        try:
            self._wait(lambda: number in self._replies, timeout, f"the answer to '{operation}'")
        finally:
            self._expected.discard(number)
        code, fields = self._replies.pop(number)
        if code != 0:
            raise LinkError(operation, code, str(fields.get("error", "")), fields)
        return fields

    def post(self, operation: str, arguments: Fields | None = None) -> None:
        """Send a request that has no answer, as one that ends the program at the other end."""
        self._channel.send(encode_frame([next(self._sequence), operation, arguments or {}]))

    def forget(self) -> None:
        """Drop the events that nobody has asked for yet: the program that they are about has ended."""
        self._events.clear()

    def on(self, name: str, handler: Handler) -> None:
        """Hand events called `name` to `handler` from now on, and those that already wait."""
        self._handlers[name] = handler
        waiting, self._events = self._events, deque()
        for event in waiting:
            self._deliver(*event)

    def event(self, name: str, *, timeout: float = 30.0) -> Fields:
        """The next event called `name` that has no handler; waits for it."""
        if name in self._handlers:
            raise ValueError(f"events '{name}' go to a handler")
        self._wait(lambda: any(event[0] == name for event in self._events), timeout, f"the event '{name}'")
        found = next(event for event in self._events if event[0] == name)
        self._events.remove(found)
        return found[1]

    def _receive(self, data: bytes) -> None:
        for message in self._deframer.feed(data):
            match message:
                case [0, str(name), dict(fields)]:
                    self._deliver(name, fields)
                case [int(number), int(code), dict(fields)]:
                    if number in self._expected:
                        self._replies[number] = (code, fields)
                case _:
                    self._deframer.bad_frames += 1

    def _deliver(self, name: str, fields: Fields) -> None:
        handler = self._handlers.get(name)
        if handler:
            handler(fields)
        else:
            self._events.append((name, fields))


def _panicked(event: Fields) -> None:
    """Raised while the streams are served, so in the middle of whatever waits."""
    raise HostProgramPanic(str(event.get("text", "")))


def wait_ready(link: Link, *, timeout: float = 60.0) -> Fields:
    """Wait until the program at the other end says `ready`; MachineTimeout otherwise."""
    try:
        return link.event("ready", timeout=timeout)
    except MachineTimeout as error:
        error.hint = "is the right program bundled with the engine? its log and the engine's console may tell"
        raise
