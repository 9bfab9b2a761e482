"""PSCI for the host's own CPUs (Arm DEN 0022, chapter 5). How a machine with VMs in it ends: `test_end`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from boot import machines
from boot.assembly import assemble
from boot.machines import Booted
from boot.rig import PAGE, VM_RAM, start_vm
from bulkhead import abi
from bulkhead.inspect.engine import stopped_view
from bulkhead.machine.qemu import RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

CPUS = 4
IDS = {line.name: line.id for line in abi.load().standards}
NOT_SUPPORTED, INVALID_PARAMETERS, DENIED, ALREADY_ON, INVALID_ADDRESS = -1, -2, -3, -4, -9
ON, OFF = 0, 1


@pytest.fixture
def booted() -> Iterator[Booted]:
    """A machine of four CPUs, of which one runs."""
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=CPUS)) as booted:
        yield booted


def psci(booted: Booted, name: str, *arguments: int, cpu: int = 0) -> int:
    """x0 of the answer as a signed number; every other register must come back as it was."""
    registers = [IDS[name], *arguments]
    registers += [0x1111 * number for number in range(len(registers), 18)]
    answer = booted.link.call("call", {"cpu": cpu, "regs": registers})["regs"]
    assert answer[1:] == registers[1:]
    return int(answer[0]) - (1 << 64 if answer[0] >> 63 else 0)


def test_versions_and_features(booted: Booted) -> None:
    assert psci(booted, "PSCI_VERSION") == 0x1_0001
    assert psci(booted, "PSCI_MIGRATE_INFO_TYPE") == 2
    for name in ("PSCI_CPU_ON", "PSCI_CPU_OFF", "PSCI_AFFINITY_INFO", "PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"):
        assert psci(booted, "PSCI_FEATURES", IDS[name]) == 0
    assert psci(booted, "PSCI_FEATURES", IDS["PSCI_CPU_SUSPEND"]) == NOT_SUPPORTED
    assert psci(booted, "PSCI_CPU_SUSPEND", 0, 0, 0) == NOT_SUPPORTED


def test_every_cpu_starts_and_calls(booted: Booted) -> None:
    for cpu in range(1, CPUS):
        assert psci(booted, "PSCI_AFFINITY_INFO", cpu, 0) == OFF
        booted.link.call("cpu_on", {"cpu": cpu})
        assert booted.call("version", cpu=cpu)[:4] == [0, abi.load().version, 64, CPUS]
        assert psci(booted, "PSCI_AFFINITY_INFO", cpu, 0, cpu=cpu) == ON
        assert f"cpu {cpu}: firmware answers 0 to CPU_ON" in booted.log()


def test_a_running_cpu_is_not_started_again(booted: Booted) -> None:
    entry = booted.boot_info.host_image[0]
    booted.link.call("cpu_on", {"cpu": 1})
    assert booted.call("version", cpu=1)[0] == 0
    assert psci(booted, "PSCI_CPU_ON", 1, entry, 0) == ALREADY_ON
    assert psci(booted, "PSCI_CPU_ON", 0, entry, 0) == ALREADY_ON
    assert booted.call("version", cpu=1)[0] == 0


@pytest.mark.parametrize("affinity", [CPUS, 1 << 8, 1 << 63, 0x8000_0000])
def test_a_cpu_that_does_not_exist(booted: Booted, affinity: int) -> None:
    assert psci(booted, "PSCI_CPU_ON", affinity, booted.boot_info.host_image[0], 0) == INVALID_PARAMETERS


def test_an_entry_that_is_no_instruction(booted: Booted) -> None:
    assert psci(booted, "PSCI_CPU_ON", 1, booted.boot_info.host_image[0] + 2, 0) == INVALID_ADDRESS


def test_a_cpu_goes_and_comes_back(booted: Booted) -> None:
    booted.write(split_frame(booted), program_cpu_off())
    assert psci(booted, "PSCI_CPU_ON", 3, split_frame(booted), 0) == 0
    booted.machine.wait_until(lambda: psci(booted, "PSCI_AFFINITY_INFO", 3, 0) == OFF, 10, "CPU 3 to go off")
    booted.link.call("cpu_on", {"cpu": 3})
    assert booted.call("version", cpu=3)[0] == 0


def test_a_cpu_goes_off_with_a_vcpu_loaded(booted: Booted) -> None:
    booted.next_frame = booted.boot_info.split_block[0] + PAGE
    count = "1: add x19, x19, #1\n mov x1, x19\n ldr x0, =0xC6000042\n hvc #0\n b 1b"
    vm = start_vm(booted, 0, {VM_RAM: assemble(count)})
    booted.link.call("cpu_on", {"cpu": 1})
    assert [vm.run(cpu=1)[1] for _ in range(3)] == [1, 2, 3]
    assert booted.call("vcpu_run", vm.contexts[0])[0] != 0, "it is loaded on CPU 1"
    booted.write(split_frame(booted), program_cpu_off())
    booted.link.call("begin", {"cpu": 1, "address": split_frame(booted)})
    booted.machine.wait_until(lambda: psci(booted, "PSCI_AFFINITY_INFO", 1, 0) == OFF, 10, "CPU 1 to go off")
    assert [vm.run()[1] for _ in range(3)] == [4, 5, 6]
    assert psci(booted, "PSCI_CPU_ON", 1, split_frame(booted), 0) == 0
    assert vm.run()[1] == 7


def split_frame(booted: Booted) -> int:
    """A frame of host RAM that nobody uses."""
    return booted.boot_info.split_block[0] + 0x10_0000


def program_cpu_off() -> bytes:
    """movz w0, #0x8400, lsl #16; movk w0, #2; hvc #0; b . (Arm ARM C6.2)."""
    words = (0x52B0_8000, 0x7280_0040, 0xD400_0002, 0x1400_0000)
    return b"".join(word.to_bytes(4, "little") for word in words)


@pytest.mark.parametrize("name", ["PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"])
def test_no_end_while_ownership_changes(booted: Booted, name: str) -> None:
    """The lock is taken from outside, as if by another CPU."""
    with stopped_view(booted.machine, booted.symbols) as view:
        lock = view.physical(booted.symbols.address("LOCK")) - RAM_BASE
    os.pwrite(booted.machine.ram, (1).to_bytes(8, "little"), lock)
    assert psci(booted, name) == DENIED
    os.pwrite(booted.machine.ram, bytes(8), lock)
    with pytest.raises(Exception, match="ended with status 0"):
        psci(booted, name)


@pytest.mark.parametrize("name", ["PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"])
def test_the_end(booted: Booted, name: str) -> None:
    with pytest.raises(Exception, match="ended with status 0"):
        psci(booted, name)
