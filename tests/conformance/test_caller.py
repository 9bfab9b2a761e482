"""A VM that makes the calls that it is told to, on the booted engine."""

from __future__ import annotations

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends import caller
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.caller import Caller
from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.conformance.testing.builder import RAM
from bulkhead.conformance.testing.machine import ABI
from bulkhead.errors import CheckFailed
from bulkhead.spec.transaction import EXIT, STATUS
from native.guest import mrs, msr

SHARE, HOST_CALL, RELINQUISH = (ABI.call(name).id for name in ("share", "host_call", "relinquish"))


def test_words_are_the_instructions_that_they_are_named_after() -> None:
    names = ("VBAR_EL1", "ICC_PMR_EL1", "ICC_IGRPEN1_EL1", "ICC_EOIR1_EL1")
    assert [msr(name, 0) for name in names] == [getattr(caller, name) for name in names]
    assert mrs(0, "ICC_IAR1_EL1") == caller.READ_ICC_IAR1_EL1


def started(machine: Machine) -> tuple[Caller, int]:
    """A VM with the program and a page behind it; its vCPU."""
    assert isinstance(machine.backend, PayloadBackend)
    vm = Vm(machine)
    vm.page(RAM, content=caller.program(RAM))
    vm.page(RAM + PAGE)
    vm.activate()
    return Caller(machine.backend), vm.contexts[0]


@pytest.mark.qemu
@pytest.mark.metal
def test_what_comes_back_and_what_the_host_sees(machine: Machine) -> None:
    calls, vcpu = started(machine)
    made = calls.call(0, vcpu, (SHARE, RAM + PAGE, 0, 0, 7))
    assert (made.registers, made.rest_unchanged) == ((0, RAM + PAGE, 0, 0, 7), True)
    assert made.seen == Next("exit", EXIT["SHARE"], (SHARE, RAM + PAGE, 0))
    made = calls.call(1, vcpu, (SHARE, RAM + PAGE, 0, 0, 7))
    assert (made.registers, made.seen.kind) == ((STATUS["BAD_STATE"], 0, 0, 0, 7), "resume")
    assert calls.call(1, vcpu, (HOST_CALL, 1, 2, 3, 4)).seen == Next("exit", EXIT["HOST_CALL"], (1, 2, 3))


@pytest.mark.qemu
def test_a_call_that_is_repeated_can_be_given_up(machine: Machine) -> None:
    calls, vcpu = started(machine)
    for cpu in (0, 1):
        made = calls.call(cpu, vcpu, (RELINQUISH, RAM + 2 * PAGE, 0, 0, 0))
        assert (made.registers, made.seen) == ((), Next("exit", EXIT["MEM_FAULT"], (RAM + 2 * PAGE, 0, 0)))
    assert calls.call(0, vcpu, (RELINQUISH, RAM + PAGE, 0, 0, 0)).seen.exit_class == EXIT["SHARE"]


@pytest.mark.qemu
@pytest.mark.metal
def test_another_program_is_noticed(machine: Machine) -> None:
    assert isinstance(machine.backend, PayloadBackend)
    vm = Vm(machine)
    vm.page(RAM)
    vm.activate()
    with pytest.raises(CheckFailed, match="does not ask for its registers"):
        Caller(machine.backend).call(0, vm.contexts[0], (SHARE, RAM, 0, 0, 0))
