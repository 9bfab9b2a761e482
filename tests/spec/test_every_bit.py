"""Each call of the table with one bit of one argument changed: the refused has no effect, the rest is as specified.

The calls are those of the table, so that a new one is tried or fails here; the specification judges registers, memory,
maintenance and events of every try.
"""

from __future__ import annotations

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.testing.machine import ABI
from native.scene import RAM, Scene

pytestmark = pytest.mark.host

SMALL = ((0x4000_0000, 24 << 20),)
WIDTH = 64
CALLS = [(line.caller, line.name) for line in ABI.calls]
QUESTIONS = ("version", "features", "stats", "log_read", "vcpu_put")
"""Calls of the host that need nothing to succeed, and leave nothing behind."""
SHARING = ("share", "unshare", "relinquish")
"""Calls of a VM that leave something behind."""


class Tries:
    """One scene for as many tries as change nothing."""

    def __init__(self, caller: str, name: str) -> None:
        self.line = next(line for line in ABI.calls if (line.caller, line.name) == (caller, name))
        self.is_question = name in QUESTIONS if caller == "host" else name not in SHARING
        self.succeeded = self.refused = 0
        self._set()

    def _set(self) -> None:
        self.backend = HostBackend(SMALL, cpus=2, features=3)
        self.scene = Scene.set(Machine(self.backend))
        self.good = self._good()
        self.follower = VcpuOracle(self.scene.machine)
        if self.line.caller == "vm":
            self.follower.host_call(0, "vcpu_run", self.scene.live.contexts[0], 0, 0, 0, 0, 0)

    def _good(self) -> list[int]:
        """Values of the arguments with which the call succeeds. Those of a VM are three, some of them reserved."""
        name = self.line.name
        if self.line.caller == "vm":
            if name in ("unshare", "relinquish"):
                self.scene.offer()
            return [RAM if name in SHARING else 0, 0, 0]
        arguments = {} if self.line.reserved or name in QUESTIONS else self.scene.good(name)
        return [arguments.get(argument, 0) for argument in self.line.args]

    def make(self, values: list[int]) -> bool:
        """Whether one try succeeds; the machine is set anew if it has changed then."""
        if self.line.caller == "vm":
            success = self.follower.hvc(0, self.line.name, *values).outcome.success is True
        else:
            success = self.follower.host_call(0, self.line.name, *values).outcome.success is True
        self.succeeded, self.refused = self.succeeded + success, self.refused + (not success)
        if success and not self.is_question:
            self.close()
            self._set()
        return success

    def close(self) -> None:
        """Everything is compared once more."""
        self.follower.check()
        self.backend.close()


@pytest.mark.parametrize(("caller", "name"), CALLS)
def test_every_bit_of_every_argument(caller: str, name: str) -> None:
    tries = Tries(caller, name)
    for argument in range(len(tries.good)):
        for bit in range(WIDTH):
            values = list(tries.good)
            values[argument] ^= 1 << bit
            tries.make(values)
    assert tries.make(tries.good) != tries.line.reserved, "what was varied succeeds"
    tries.close()
    assert tries.succeeded + tries.refused == 1 + WIDTH * len(tries.good)
    if name in SHARING or tries.line.reserved:
        assert tries.refused >= WIDTH * len(tries.good), "not one bit may be otherwise"
