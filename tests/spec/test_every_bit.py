"""Each call of the table with one bit of one argument changed: the refused has no effect, the rest is as specified.

The calls are those of the table, so that a new one is tried or fails here; the specification judges registers, memory,
maintenance and events of every try.
"""

from __future__ import annotations

import pytest

from bulkhead.abi import Standard
from bulkhead.conformance import Machine
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import VmState
from bulkhead.spec.words import Word
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
        _, success = self.call(self.line.id, values)
        if success and not self.is_question:
            self.renew()
        return success

    def call(self, function: int, values: list[int]) -> tuple[Word, bool]:
        """x0 after a call of this caller, and whether it has succeeded."""
        if self.line.caller == "vm":
            outcome = self.follower.hvc(0, function, *values).outcome
            answer: Word = self.follower.word(0, 0) if self.follower.loaded(0) is not None else 0
        else:
            called = self.follower.host_call(0, function, *values)
            outcome, answer = called.outcome, (called.registers or (0,))[0]
        success = outcome.success is True
        self.succeeded, self.refused = self.succeeded + success, self.refused + (not success)
        return answer, success

    def stopped(self) -> bool:
        """Whether the VM runs no more."""
        return self.scene.machine.vm_record(self.scene.live.slot).state != VmState.ACTIVE

    def renew(self) -> None:
        """Another machine as this one was."""
        self.close()
        self._set()

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


KNOWN = {line.id for line in ABI.calls} | {line.id for line in ABI.standards}


@pytest.mark.parametrize("caller", ["host", "vm"])
def test_every_bit_of_every_id(caller: str) -> None:
    """Whatever is one bit off an id, and no id itself, is not supported: 32 bits higher, of another owner or kind."""
    tries = Tries(caller, "version" if caller == "host" else "measurement")
    others = {known ^ 1 << bit for known in KNOWN for bit in range(WIDTH)} - KNOWN
    for function in sorted(others):
        answer, _ = tries.call(function, [0, 0, 0])
        assert answer == MASK, f"{function:#x} answers {answer}"
    tries.close()
    assert len(others) > 2000


@pytest.mark.parametrize("standard", ABI.standards, ids=lambda standard: standard.name)
def test_every_bit_of_a_standards_arguments(standard: Standard) -> None:
    """PSCI, TRNG and discovery of a VM: the specification says what each does. Every third bit: some end the VM."""
    tries = Tries("vm", "measurement")
    for argument in range(3):
        for bit in range(argument, WIDTH, 3):
            values = [0, 0, 0]
            values[argument] = 1 << bit
            tries.call(standard.id, values)
            if tries.follower.loaded(0) is None or tries.stopped():
                tries.renew()
    tries.close()
