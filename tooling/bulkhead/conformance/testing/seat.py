"""One backend's place in a pytest session: started when first needed, renewed after a failure, given up if that fails.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.conformance.backends.backend import Backend
from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.provision.toolchain import Kind as Toolchain

PSEUDO_TERMINAL = "qemu"
"""As the serial device: a machine of our own in QEMU, whose UART1 is a pseudo-terminal."""
NAMES = ("host", "qemu", "metal")


class Seat:
    """Who sits here is asked for by `backend`. After a loss every test fails with one line."""

    def __init__(self, name: str, start: Callable[[], Backend]) -> None:
        self.name = name
        self._start = start
        self._backend: Backend | None = None
        self._lost = ""

    def backend(self) -> Backend:
        """The running machine; ends the test if there is none."""
        if self._lost:
            pytest.fail(f"the backend '{self.name}' was lost: {self._lost}", pytrace=False)
        if self._backend is None:
            lost = self._attempt(self._take_place)
            if lost is not None:
                self._give_up(lost)
        assert self._backend is not None
        return self._backend

    def _take_place(self) -> None:
        self._backend = self._start()

    @staticmethod
    def _attempt(what: Callable[[], None]) -> BulkheadError | None:
        """The error that it ends with: given up outside of its handler, so that pytest tells it once."""
        try:
            what()
        except BulkheadError as error:
            return error
        return None

    def renew(self) -> None:
        """The machine as boot leaves it. If it cannot be had, this is the last that is tried with it."""
        if self._backend is None:
            return
        lost = self._attempt(self._backend.reset)
        if lost is not None:
            self.close()
            self._give_up(lost)

    def close(self) -> None:
        """Lets the machine go."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def _give_up(self, error: BulkheadError) -> None:
        self._lost = error.what.splitlines()[0]
        pytest.fail(f"the backend '{self.name}' cannot be used: {error}", pytrace=False)


def starter(name: str, toolchain: Toolchain, serial: str, power: str) -> Callable[[], Backend]:
    """What starts the backend `name`. Only what it needs is imported: host tests need neither image nor QEMU."""

    def host() -> Backend:
        from bulkhead.conformance.backends.host import HostBackend

        return HostBackend()

    def qemu() -> Backend:
        from bulkhead.conformance.backends.qemu import QemuBackend

        return QemuBackend.start(toolchain)

    def metal() -> Backend:
        from bulkhead.conformance.backends.line import PseudoTerminal, SerialDevice
        from bulkhead.conformance.backends.metal import MetalBackend

        if serial != PSEUDO_TERMINAL:
            return MetalBackend(SerialDevice(serial, power))
        from bulkhead.image.build import build
        from bulkhead.provision import qemu as program

        return MetalBackend(PseudoTerminal(build(toolchain, "payload"), str(program.ensure())))

    starters: dict[str, Callable[[], Backend]] = {"host": host, "qemu": qemu, "metal": metal}
    if name not in starters:
        raise InvalidInput(f"there is no backend '{name}'", hint=f"choose from {', '.join(NAMES)}")
    return starters[name]
