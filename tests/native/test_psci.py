"""PSCI 1.1 of a VM, call by call (Arm DEN 0022). Host build only; guests that really start CPUs: test_guest_calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import VmState
from bulkhead.spec import plain
from native.exceptions import EXITS, PC, Exceptions, X
from native.scene import RAM

pytestmark = pytest.mark.host

STANDARD = {line.name: line.id for line in ABI.standards}
INVALID_PARAMETERS, ALREADY_ON, ON_PENDING, INVALID_ADDRESS = (-n & MASK for n in (2, 4, 5, 9))
RUNNABLE, TRANSIT = 1, 2
"""Run states of a vCPU."""
SECOND = 1
"""The vCPU that has not been started."""


def answer(guest: Exceptions, name: str, *arguments: int) -> int:
    """x0 of a call that the engine answers itself."""
    registers, next_ = guest.call(STANDARD[name], *arguments)
    assert next_ == Next("resume", 0, (0, 0, 0))
    return registers[0]


@pytest.fixture
def starting(guest: Exceptions) -> Iterator[Exceptions]:
    """The same while another vCPU is starting the second."""
    address = guest.machine.layout.frame_records + 8 * guest.machine.index(guest.vm.contexts[SECOND])
    before = guest.backend.physical(address, 8)
    record = plain.unpack(int.from_bytes(before, "little"))._replace(parent=TRANSIT)
    guest.backend.poke(address, plain.pack(record).to_bytes(8, "little"))
    yield guest
    guest.backend.poke(address, before)


def test_version_and_what_needs_no_migration(guest: Exceptions) -> None:
    assert answer(guest, "PSCI_VERSION") == 0x1_0001
    assert answer(guest, "PSCI_MIGRATE_INFO_TYPE") == 2


def test_features(guest: Exceptions) -> None:
    known = [name for name in STANDARD if name.startswith("PSCI_")]
    assert len(known) >= 9
    for name in [*known, "SMCCC_VERSION"]:
        assert answer(guest, "PSCI_FEATURES", STANDARD[name]) == 0, name
    for function in (0, 0x8400_0005, STANDARD["TRNG_VERSION"], MASK):
        assert answer(guest, "PSCI_FEATURES", function) == MASK


def test_affinity_info(guest: Exceptions) -> None:
    assert answer(guest, "PSCI_AFFINITY_INFO", 0, 0) == 0
    assert answer(guest, "PSCI_AFFINITY_INFO", SECOND, 0) == 1


def test_affinity_info_of_what_is_starting(starting: Exceptions) -> None:
    assert answer(starting, "PSCI_AFFINITY_INFO", SECOND, 0) == 2


@pytest.mark.parametrize(("affinity", "level"), [(0, 1), (2, 0), (8, 0), (1 << 8, 0), (MASK, 0)])
def test_affinity_info_of_nothing(guest: Exceptions, affinity: int, level: int) -> None:
    assert answer(guest, "PSCI_AFFINITY_INFO", affinity, level) == INVALID_PARAMETERS


def test_a_vcpu_that_the_host_has_taken_back_is_none(guest: Exceptions) -> None:
    """The VM is dying, but its other vCPU has not left yet."""
    guest.machine.ok("vm_kill", vm=guest.vm.slot)
    guest.machine.ok("reclaim", frame=guest.vm.contexts[SECOND])
    assert answer(guest, "PSCI_AFFINITY_INFO", SECOND, 0) == INVALID_PARAMETERS
    assert answer(guest, "PSCI_CPU_ON", SECOND, RAM, 0) == INVALID_PARAMETERS


def test_suspend_is_a_wait(guest: Exceptions) -> None:
    registers, next_ = guest.call(STANDARD["PSCI_CPU_SUSPEND"], 0, RAM, 5)
    assert (registers[0], next_) == (0, Next("exit", EXITS["WFI"], (0, 0, 0)))


def test_cpu_on(guest: Exceptions) -> None:
    function, second = STANDARD["PSCI_CPU_ON"], guest.vm.contexts[SECOND]
    guest.machine.refuses("vcpu_run", "BAD_STATE", vcpu=second)
    registers, next_ = guest.call(function, SECOND, RAM + 8, 0xABCD)
    assert (registers[0], next_) == (0, Next("exit", EXITS["PSCI"], (function, SECOND, 0)))
    context = Exceptions(guest.machine, guest.vm)
    context.vcpu = second
    assert (context.word(X), context.word(PC)) == (0xABCD, RAM + 8)
    assert guest.machine.frame_record(second).parent == RUNNABLE
    guest.machine.ok("vcpu_run", cpu=1, vcpu=second)


@pytest.mark.parametrize("entry", [RAM + 1, RAM + 2, 1 << 39, MASK - 3])
def test_cpu_on_at_an_address_that_cannot_be(guest: Exceptions, entry: int) -> None:
    assert answer(guest, "PSCI_CPU_ON", SECOND, entry, 0) == INVALID_ADDRESS


@pytest.mark.parametrize("affinity", [2, 8, 1 << 32, MASK])
def test_cpu_on_of_nothing(guest: Exceptions, affinity: int) -> None:
    assert answer(guest, "PSCI_CPU_ON", affinity, RAM, 0) == INVALID_PARAMETERS


def test_cpu_on_of_what_is_on(guest: Exceptions) -> None:
    assert answer(guest, "PSCI_CPU_ON", 0, RAM, 0) == ALREADY_ON


def test_cpu_on_while_another_vcpu_does_it(starting: Exceptions) -> None:
    assert answer(starting, "PSCI_CPU_ON", SECOND, RAM, 0) == ON_PENDING


@pytest.mark.parametrize("name", ["PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"])
def test_a_vm_that_ends_itself_is_dying(guest: Exceptions, name: str) -> None:
    _, next_ = guest.call(STANDARD[name])
    assert next_ == Next("exit", EXITS["PSCI"], (STANDARD[name], 0, 0))
    assert guest.vm.state == VmState.DYING
    guest.machine.refuses("vcpu_run", "BAD_STATE", vcpu=guest.vcpu)


def test_a_vcpu_that_is_not_loaded_turns_itself_off(guest: Exceptions) -> None:
    """The machine takes the exit of a vCPU that it has not loaded; its record stays the host's to see."""
    guest.machine.ok("vcpu_put")
    _, next_ = guest.call(STANDARD["PSCI_CPU_OFF"])
    assert next_.kind == "off"
    assert guest.machine.frame_record(guest.vcpu).parent == RUNNABLE
