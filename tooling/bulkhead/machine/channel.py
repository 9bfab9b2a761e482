"""Non-blocking byte streams to a machine, all served by one loop in one thread.

Trust label: TOOL. One thread on purpose: nothing runs behind the caller's back, Ctrl-C is an ordinary
exception, and a stream that nobody reads only makes QEMU wait.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Protocol

CHUNK = 65536

Receiver = Callable[[bytes], None]


class Stream(Protocol):
    """What carries the bytes, as a socket does; `send` and `recv` never wait once it is not blocking."""

    def fileno(self) -> int:
        """Descriptor to wait for; negative when closed."""
        ...

    def setblocking(self, flag: bool, /) -> None:
        """Whether `send` and `recv` wait."""
        ...

    def send(self, data: bytes | bytearray, /) -> int:
        """How many of the bytes left. BlockingIOError: none, for now."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Bytes that have arrived; none at the stream's end. BlockingIOError: none yet."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Channel:
    """One stream: `send` queues bytes, `deliver_to` says who gets what arrives, `open` turns false at its end.

    What arrives before anybody wants it is kept.
    """

    def __init__(self, name: str, stream: Stream, loop: Loop) -> None:
        stream.setblocking(False)
        self.name = name
        self.open = True
        self._early = bytearray()
        self._receiver: Receiver = self._early.extend
        self._stream = stream
        self._pending = bytearray()
        self._loop = loop
        loop.selector.register(stream, selectors.EVENT_READ, self._ready)

    def deliver_to(self, receiver: Receiver) -> None:
        """Hand over everything that has arrived unread, and from now on whatever arrives."""
        early, self._early = bytes(self._early), bytearray()
        self._receiver = receiver
        if early:
            receiver(early)

    def send(self, data: bytes) -> None:
        """Queue `data`; it leaves as fast as the machine takes it."""
        self._pending += data
        self._flush()

    def close(self) -> None:
        """Stop serving the stream. May be called twice."""
        if self._stream.fileno() >= 0:
            self._loop.selector.unregister(self._stream)
            self._stream.close()
        self.open = False

    def _flush(self) -> None:
        try:
            while self._pending and self.open:
                del self._pending[: self._stream.send(self._pending[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if self.open:
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._pending else 0)
            self._loop.selector.modify(self._stream, interest, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ or not self.open:
            return
        try:
            data = self._stream.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._receiver(data)
        else:
            self.close()


class Loop:
    """The selector that serves a machine's channels, and any other file descriptor given to `watch`."""

    def __init__(self) -> None:
        self.selector = selectors.PollSelector()  # unlike epoll, also takes plain files as stdin

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever `fd` can be read."""
        self.selector.register(fd, selectors.EVENT_READ, lambda events: ready())

    def unwatch(self, fd: int) -> None:
        """Forget `fd`."""
        self.selector.unregister(fd)

    def step(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for anything, and serve what is ready."""
        for key, events in self.selector.select(max(0.0, timeout)):
            if key.fileobj in self.selector.get_map():
                key.data(events)

    def close(self) -> None:
        """Release the selector; the channels are closed by their owners."""
        self.selector.close()
