"""Interrupts of guests that really run: listed by the host, the virtual timer, SGIs."""

from __future__ import annotations

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.testing.machine import ABI, MASK
from native.guest import FOREVER, GIC_ON, ISB, WAIT, WFI, Guest, code, move, mrs, msr, report

pytestmark = [pytest.mark.qemu, pytest.mark.metal]

NO_DEADLINE = MASK
PENDING, ACTIVE, GROUP1 = 1 << 62, 1 << 63, 1 << 60


def test_sgi(machine: Machine) -> None:
    guest = Guest(machine, code(*move(5, 0x1200_0034), msr("ICC_SGI1R_EL1", 5), *report(5)))
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("SGI", (0x1200_0034,))
    assert guest.reports(1) == [0x1200_0034]


def test_listed_interrupts_reach_the_guest(machine: Machine) -> None:
    take = [mrs(2, "ICC_IAR1_EL1"), *report(2), msr("ICC_EOIR1_EL1", 2), ISB]
    guest = Guest(machine, code(*GIC_ON, WFI, *take, *take, *take, WFI))
    assert guest.run().name == "WFI"
    lists = {"lr0": PENDING | GROUP1 | 0xA0 << 48 | 40, "lr2": PENDING | GROUP1 | 0x90 << 48 | 50}
    first = guest.run(**lists)
    assert first.data[2] == 50
    assert first.lists[2] & (PENDING | ACTIVE) == ACTIVE
    names = ("lr0", "lr1", "lr2")
    second = guest.run(**dict(zip(names, first.lists, strict=True)))
    assert second.data[2] == 40
    third = guest.run(**dict(zip(names, second.lists, strict=True)))
    assert third.data[2] == 1023
    assert third.lists == (0, 0, 0)


def test_no_pending_interrupt_is_an_exit_if_asked_for(machine: Machine) -> None:
    guest = Guest(machine, code(*GIC_ON, FOREVER))
    exit_ = guest.run(control=1 << 2)
    assert exit_.name == "VGIC"
    assert exit_.misr & 1 << 3


TIMER = [*move(3, 1000), msr("CNTV_TVAL_EL0", 3), *move(3, 1), msr("CNTV_CTL_EL0", 3), ISB]


def test_virtual_timer(machine: Machine) -> None:
    poll = [mrs(2, "ICC_IAR1_EL1"), 0xF10FFC5F, 0x54FFFFC0]  # until it is not 1023: CMP x2, #1023; B.EQ -2
    guest = Guest(machine, code(*GIC_ON, *TIMER, *poll, *report(2)))
    assert guest.reports(1, control=1 | 0xA0 << 8) == [27]


@pytest.mark.raw_memory
def test_deadline_of_a_wait(machine: Machine) -> None:
    guest = Guest(machine, code(*GIC_ON, *move(3, 1 << 30), *TIMER[1:], WFI))
    exit_ = guest.run(control=1)
    assert exit_.name == "WFI"
    assert exit_.deadline != NO_DEADLINE
    assert machine.vm_word(0, 32) < exit_.deadline < machine.vm_word(0, 32) + (1 << 31)


def test_counter_starts_near_zero(machine: Machine) -> None:
    (count,) = Guest(machine, code(mrs(0, "CNTVCT_EL0"), *report(0))).reports(1)
    assert count < 62_500_000 * 10


def test_a_guest_that_never_exits_is_interrupted(machine: Machine) -> None:
    guest = Guest(machine, code(FOREVER))
    for _ in range(2):
        results = machine.ok("vcpu_run", vcpu=guest.vm.contexts[0]).results
        assert ABI.exit_class(results["class"]).name == "IRQ"


def test_a_listed_interrupt_that_is_not_taken_stays_listed(machine: Machine) -> None:
    guest = Guest(machine, WAIT)
    pending = PENDING | GROUP1 | 0xA0 << 48 | 77
    assert guest.run(lr1=pending).lists == (0, pending, 0)
