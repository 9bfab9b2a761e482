"""CPUs with more and with less than usual: each runs VMs, or is refused for what it lacks."""

from __future__ import annotations

import dataclasses

import pytest

from boot import machines
from boot.assembly import assemble
from boot.devices import nvme
from boot.rig import EXITS, VM_RAM, start_vm
from bulkhead.machine.errors import LinkError
from bulkhead.machine.qemu import MIB, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu
CONFIG = QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB)
CALL = assemble("ldr x0, =0xC6000042\n mov x1, #0x77\n hvc #0\n b .\n .ltorg")
MACHINES = {
    "no performance monitors": ("neoverse-n1,pmu=off", ""),
    "Armv8.4": ("neoverse-v1", ""),
    "Armv9": ("neoverse-n2", ""),
    "everything": ("max", ""),
    "memory tagging": ("max", "mte=on"),
    "48 address bits": ("max,lpa2=off", ""),
    "no pointer authentication": ("max,pauth=off", ""),
}
"""CPU model, and properties of the machine."""


@pytest.mark.parametrize("kind", MACHINES)
def test_a_vm_runs(kind: str) -> None:
    """And its call comes to the host."""
    model, options = MACHINES[kind]
    with machines.boot(dataclasses.replace(CONFIG, cpu_model=model, options=options)) as booted:
        info = booted.boot_info
        booted.next_frame = info.split_block[0] + 4096
        assert start_vm(booted, 0, {VM_RAM: CALL}).run_on()[:2] == [EXITS["HOST_CALL"], 0x77]


def test_a_cpu_that_reaches_too_little_is_refused() -> None:
    """40 bits of physical addresses."""
    config = dataclasses.replace(CONFIG, cpu_model="cortex-a55", ignore=("BULKHEAD STOP",))
    with QemuMachine(config) as machine:
        machine.wait_until(lambda: "BULKHEAD STOP" in machine.console.text, 20, "the refusal")
        machine.wait_until(lambda: "\n" in machine.console.text.partition("BULKHEAD STOP")[2], 20, "its end")
        assert "fewer than 44 physical address bits" in machine.console.text


def test_a_trapped_read_into_the_zero_register() -> None:
    """Nothing is written anywhere; the host goes on behind it."""
    with machines.boot(CONFIG) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + 4096
        program = booted.take()
        booted.write(program, assemble("mrs xzr, ctr_el0\n mrs x0, ctr_el0\n ret"))
        booted.execute(program)


def test_the_host_cannot_execute_device_memory() -> None:
    """A permission fault at stage 2, which the host gets as an external abort."""
    with machines.boot(CONFIG) as booted:
        with pytest.raises(LinkError) as error:
            booted.execute(0x0904_0000)
        assert error.value.fields["esr"] >> 26 == 0x21, "an instruction abort of the same level"
        assert error.value.fields["esr"] & 0x3F == 0x10, "a synchronous external abort"


def test_several_controllers_are_reset_when_a_window_closes() -> None:
    """Each that keeps addresses has a place among those to reset."""
    devices = (nvme.OPTION, "nvme,serial=2", "nvme,serial=3")
    with machines.boot(dataclasses.replace(CONFIG, devices=devices)) as booted:
        assert "translates for 3 PCIe functions" in booted.log()
        block = max(base for base, size in booted.boot_info.host_ram) + 4 * MIB
        booted.read(block, 8)
        booted.ok("dma_allow", block)
        booted.ok("dma_revoke", block)
