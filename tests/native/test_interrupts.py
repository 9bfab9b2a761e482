"""Interrupts and SErrors while a vCPU runs, and its timer. Host build only; with a real GIC: test_guest_interrupts."""

from __future__ import annotations

import pytest

from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import VmState
from native.exceptions import EXITS, Exceptions

pytestmark = pytest.mark.host

TIMER, MAINTENANCE = 27, 25
DIED_SERROR = next(line.value for line in ABI.deaths if line.name == "SERROR")
DELIVER, PRIORITY = 1, 8
"""Control word of `vcpu_run`: the timer's interrupt is enabled; lowest bit of its priority."""
ENABLE, IMASK = 1, 2
"""CNTV_CTL_EL0."""


def link(priority: int) -> int:
    """The list register of the timer: pending, linked to the hardware's interrupt, group 1 (IHI 0069, 9.4.12)."""
    return 1 << 62 | 1 << 61 | 1 << 60 | priority << 48 | TIMER << 32 | TIMER


@pytest.mark.parametrize("intid", [0, 15, 26, 28, 32, 1019], ids=str)
def test_the_hosts_interrupts_are_an_exit(guest: Exceptions, intid: int) -> None:
    assert guest.backend.interrupt(0, guest.vcpu, intid) == Next("exit", EXITS["IRQ"], (0, 0, 0))


@pytest.mark.parametrize("intid", [1020, 1023])
def test_one_that_is_gone_is_none(guest: Exceptions, intid: int) -> None:
    assert guest.backend.interrupt(0, guest.vcpu, intid).kind == "resume"


def test_maintenance(guest: Exceptions) -> None:
    assert guest.backend.interrupt(0, guest.vcpu, MAINTENANCE) == Next("exit", EXITS["VGIC"], (0, 0, 0))


def test_the_timer_is_the_vms(guest: Exceptions) -> None:
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, control=DELIVER | 0xA0 << PRIORITY)
    guest.backend.events()
    assert guest.backend.interrupt(0, guest.vcpu, TIMER).kind == "resume"
    happened = [(event.name, event.operands[0]) for event in guest.backend.events()]
    assert happened == [("AcknowledgeInterrupt", TIMER), ("SetTimerListRegister", link(0xA0))]


def test_a_timer_that_is_not_enabled_waits(guest: Exceptions) -> None:
    assert guest.backend.interrupt(0, guest.vcpu, TIMER).kind == "resume"
    assert guest.seen("SetTimerListRegister") == []
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu)
    assert guest.seen("SetTimerListRegister") == []
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, control=DELIVER)
    assert [operands[0] for operands in guest.seen("SetTimerListRegister")] == [link(0)]
    guest.machine.ok("vcpu_run", vcpu=guest.vcpu, control=DELIVER)
    assert guest.seen("SetTimerListRegister") == []


def test_an_error_is_the_death_of_the_vm(guest: Exceptions) -> None:
    assert guest.backend.system_error(0, guest.vcpu) == Next("exit", EXITS["DIED"], (DIED_SERROR, 0, 0))
    assert guest.vm.state == VmState.DYING


@pytest.mark.parametrize("control", [0, ENABLE, IMASK, ENABLE | IMASK, ENABLE | 4], ids=str)
def test_the_host_learns_when_the_timer_fires(guest: Exceptions, control: int) -> None:
    offset = guest.machine.vm_word(guest.vm.slot, 32)
    guest.set("CNTV_CTL_EL0", control)
    guest.set("CNTV_CVAL_EL0", 0x1234_5678)
    deadline = guest.machine.ok("vcpu_run", vcpu=guest.vcpu).results["deadline"]
    fires = control & (ENABLE | IMASK) == ENABLE
    assert deadline == ((0x1234_5678 + offset) & MASK if fires else MASK)
