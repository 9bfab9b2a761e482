"""One input: a small fake machine, the steps that its bytes mean, each judged by the specification.

Trust label: TOOL.
"""

from __future__ import annotations

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.testing.machine import describe
from bulkhead.errors import MachineError
from bulkhead.fuzz.decode import OF_VMS, RAM, Decoder, Step
from bulkhead.inspect.records import Kind

MACHINE = ((RAM, 16 << 20),)
"""RAM of the machine: eight blocks."""


class Difference(Exception):
    """A step that is not the specified one, or that the engine does not survive; the text tells all steps."""


class Run:
    """The steps of one input."""

    def __init__(self, data: bytes) -> None:
        self.taken: list[Step] = []
        self.covered: set[tuple[str, str]] = set()
        self._data = data

    def execute(self) -> Run:
        """Takes the steps. Raises Difference."""
        backend = HostBackend(ram=MACHINE)
        try:
            self._execute(Machine(backend))
        except (AssertionError, MachineError) as error:
            lines = [describe(step.name, step.arguments, step.cpu) for step in self.taken]
            raise Difference("\n  ".join([str(error), "the steps:", *lines])) from error
        finally:
            backend.close()
        return self

    def _execute(self, machine: Machine) -> None:
        decoder = Decoder(self._data)
        if self._data and decoder.byte() & 3:
            _prepare(machine)
        oracle = Oracle(machine)
        self.covered = oracle.covered
        while (step := decoder.step(oracle.ghost)) is not None:
            self.taken.append(step)
            _take(oracle, step)
        oracle.check()


def _prepare(machine: Machine) -> None:
    """A VM with two pages that can make calls, a VM that is being made, and a block that nobody has touched."""
    live, new = Vm(machine, 1), Vm(machine, 0, vcpus=2)
    live.page(RAM)
    live.page(RAM + PAGE)
    live.activate()
    new.page(RAM)
    assert isinstance(machine.backend, HostBackend)
    machine.backend.leave_untouched(1)
    machine.forget_taken()


def _take(oracle: Oracle, step: Step) -> None:
    arguments = step.arguments
    if step.name in OF_VMS:
        oracle.vm_step(
            step.name, arguments["vm"], arguments["ipa"], arguments["x2"], arguments["x3"], cpu=step.cpu
        )
    elif step.name == "first_touch":
        _touch(oracle, step)
    elif step.name in ("vcpu_run", "vcpu_put"):
        oracle.machine.call(step.name, cpu=step.cpu, **arguments)
        oracle.forget()
    else:
        oracle.step(step.name, cpu=step.cpu, **arguments)


def _touch(oracle: Oracle, step: Step) -> None:
    """The host touches a block; what is no block of this machine it cannot touch."""
    blocks = oracle.machine.blocks(Kind.UNCLEARED)
    if blocks:
        oracle.first_touch(blocks[step.arguments["block"] % len(blocks)], cpu=step.cpu)
