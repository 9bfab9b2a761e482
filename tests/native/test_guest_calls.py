"""Calls of guests that really run: their own, PSCI, and those that they do not have."""

from __future__ import annotations

import hashlib

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import VmState
from native.guest import (
    FOREVER,
    HVC,
    RAM,
    SMC,
    Guest,
    code,
    hvc,
    move,
    mrs,
    report,
)

pytestmark = [pytest.mark.qemu, pytest.mark.metal]

PATTERN = 0x1122_3344_5566_7788
STANDARD = {standard.name: standard.id for standard in ABI.standards}
HOST_CALL = ABI.call("host_call").id


def test_host_call_and_every_register(machine: Machine) -> None:
    values = [0x1000_0000_0000_0000 | n for n in range(31)]
    program = [word for n in range(4, 28) for word in move(n, values[n])]
    program += [*hvc(HOST_CALL, 11, 22, 33), *report(*range(28))]
    guest = Guest(machine, code(*program))
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("HOST_CALL", (11, 22, 33))
    assert guest.reports(1, reply=PATTERN) == [0]
    assert guest.reports(27) == [PATTERN, 22, 33, *values[4:28]]


OF_VMS = {call.id for call in ABI.calls if call.caller == "vm" and not call.reserved}
UNSUPPORTED = [
    *({call.id for call in ABI.calls} - OF_VMS), 0, 0xC6000050, 0xC600FFFF, 0x8600FF03, 0x84000005, 0xC4000012, MASK,
]  # fmt: skip


def test_calls_that_a_vm_does_not_have(machine: Machine) -> None:
    program = [word for function in UNSUPPORTED for word in [*hvc(function, 1, 2, 3), *report(0, 1, 2, 3)]]
    vm = Vm(machine)
    page = code(*program)
    for offset in range(PAGE, len(page), PAGE):
        vm.page(RAM + offset, content=page[offset : offset + PAGE])
    guest = Guest(machine, page[:PAGE], vm)
    for function in UNSUPPORTED:
        assert guest.reports(4) == [MASK, 1, 2, 3], hex(function)


def test_smc_is_not_supported(machine: Machine) -> None:
    guest = Guest(machine, code(*move(0, STANDARD["PSCI_VERSION"]), *move(1, PATTERN), SMC, *report(0, 1)))
    assert guest.reports(2) == [MASK, PATTERN]


def test_a_vm_reads_its_measurement(machine: Machine) -> None:
    guest = Guest(machine, code(*hvc(ABI.call("measurement").id), *report(0, 1, 2, 3, 4)))
    assert guest.reports(5) == [0, *guest.vm.measurement.words]


@pytest.mark.raw_memory
def test_a_vm_extends_its_runtime_measurement(machine: Machine) -> None:
    extend = ABI.call("extend").id
    guest = Guest(
        machine, code(*(hvc(extend, 1, 2, 3, 4) + hvc(extend, 5, 6, 7, MASK)), *report(0, 1, 2, 3, 4))
    )
    digest = bytes(32)
    for words in ((1, 2, 3, 4), (5, 6, 7, MASK)):
        digest = hashlib.sha256(digest + b"".join(word.to_bytes(8, "little") for word in words)).digest()
    status, *words_ = guest.reports(5)
    assert status == 0
    assert b"".join(word.to_bytes(8, "little") for word in words_) == digest
    assert machine.vm_record(0).measurement == guest.vm.measurement.digest


PSCI_ANSWERS = [
    ("PSCI_VERSION", (), 0x1_0001),
    ("PSCI_MIGRATE_INFO_TYPE", (), 2),
    ("PSCI_FEATURES", (STANDARD["PSCI_CPU_ON"],), 0),
    ("PSCI_FEATURES", (0x84000005,), MASK),
    ("PSCI_AFFINITY_INFO", (0, 0), 0),
    ("PSCI_AFFINITY_INFO", (1, 0), 1),
    ("PSCI_AFFINITY_INFO", (2, 0), -2 & MASK),
    ("PSCI_AFFINITY_INFO", (0, 1), -2 & MASK),
    ("PSCI_CPU_ON", (0, RAM, 0), -4 & MASK),
    ("PSCI_CPU_ON", (2, RAM, 0), -2 & MASK),
    ("PSCI_CPU_ON", (1 << 8, RAM, 0), -2 & MASK),
    ("PSCI_CPU_ON", (1, RAM + 2, 0), -9 & MASK),
    ("PSCI_CPU_ON", (1, 1 << 39, 0), -9 & MASK),
    ("SMCCC_VERSION", (), 0x1_0002),
]


@pytest.mark.raw_memory
@pytest.mark.parametrize(("function", "arguments", "answer"), PSCI_ANSWERS)
def test_psci_without_an_exit(
    machine: Machine, function: str, arguments: tuple[int, ...], answer: int
) -> None:
    vm = Vm(machine, vcpus=2)
    guest = Guest(machine, code(*hvc(STANDARD[function], *arguments), *report(0)), vm)
    assert guest.reports(1) == [answer]
    assert machine.frame_record(vm.contexts[1]).parent == 0


@pytest.mark.raw_memory
def test_psci_cpu_on(machine: Machine) -> None:
    cpu_on, second = STANDARD["PSCI_CPU_ON"], RAM + 0x400
    first = code(
        *hvc(cpu_on, 1, second, PATTERN), *report(0), *hvc(cpu_on, 1, second, 0), *report(0), FOREVER
    )
    other = code(mrs(1, "MPIDR_EL1"), *report(0, 1), *hvc(STANDARD["PSCI_CPU_OFF"]))
    vm = Vm(machine, vcpus=2)
    guest = Guest(machine, first.ljust(0x400, b"\0") + other, vm)
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("PSCI", (cpu_on, 1))
    assert machine.frame_record(vm.contexts[1]).parent == 1
    assert guest.reports(2) == [0, -4 & MASK]
    context, mpidr = guest.reports(2, vcpu=1)
    assert (context, mpidr & 0xFF_00FF_FFFF) == (PATTERN, 1)
    exit_ = guest.run(vcpu=1)
    assert (exit_.name, exit_.data) == ("PSCI", (STANDARD["PSCI_CPU_OFF"], 1))
    assert machine.frame_record(vm.contexts[1]).parent == 0
    machine.refuses("vcpu_run", "BAD_STATE", vcpu=vm.contexts[1])


@pytest.mark.raw_memory
@pytest.mark.parametrize("function", ["PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"])
def test_psci_system_off(machine: Machine, function: str) -> None:
    guest = Guest(machine, code(*hvc(STANDARD[function])))
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("PSCI", (STANDARD[function], 0))
    assert guest.vm.state == VmState.DYING
    machine.refuses("vcpu_run", "BAD_STATE", vcpu=guest.vm.contexts[0])
    machine.refuses("vm_kill", "BAD_STATE", vm=0)


def test_psci_cpu_suspend_is_a_wait(machine: Machine) -> None:
    guest = Guest(machine, code(*hvc(STANDARD["PSCI_CPU_SUSPEND"]), *report(0)))
    assert guest.run().name == "WFI"
    assert guest.reports(1) == [0]


def test_hvc_keeps_every_other_register(machine: Machine) -> None:
    values = [0x5555_0000_0000_0000 | n for n in range(28)]
    program = [word for n in range(1, 28) for word in move(n, values[n])]
    guest = Guest(machine, code(*program, *move(0, 0xC600_0099), HVC, *report(*range(28))))
    assert guest.reports(28) == [MASK, *values[1:]]
