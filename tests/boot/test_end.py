"""SYSTEM_OFF and SYSTEM_RESET while VMs run: before firmware ends the machine nothing of any VM is left in RAM."""

from __future__ import annotations

import os
import secrets
import struct

import pytest

from boot import machines
from boot.assembly import assemble
from boot.machines import Booted
from boot.rig import BLOCK, IDS, PAGE, VM_RAM, start_vm
from boot.rig import Vm as RigVm
from boot.test_psci import IDS as PSCI
from bulkhead.inspect import checks
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.qemu import RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

CPUS = 4
FACTOR = 0x9E37_79B9_7F4A_7C15
MASK = (1 << 64) - 1
WORDS = 7
# The VM makes its secret from a number: word = number * FACTOR, and fills memory, general and FP registers with it.
KEEP_SECRETS = f"""
    mov x1, #(3 << 20)
    msr cpacr_el1, x1
    isb
    ldr x1, ={FACTOR:#x}
    mul x2, x0, x1
    add x3, x2, x1
    add x4, x3, x1
    add x5, x4, x1
    add x6, x5, x1
    add x7, x6, x1
    fmov d0, x6
    fmov d1, x7
    add x8, x7, x1
    msr tpidr_el0, x8
    mov x8, xzr
    mov x19, x2
    mov x20, x3
    mov x21, x4
    mov x24, x5
    mov x28, x6
    ldr x9, ={VM_RAM + PAGE:#x}
1:  stp x2, x3, [x9]
    stp x4, x5, [x9, #16]
    b 1b
"""
# The host's CPU: x0 is the vCPU, which it runs for ever.
RUN = f"""
    mov x20, x0
1:  ldr x0, ={IDS["vcpu_run"]:#x}
    mov x1, x20
    mov x2, xzr
    mov x3, xzr
    mov x4, xzr
    mov x5, xzr
    mov x6, xzr
    hvc #0
    b 1b
"""
# The same, once, for a VM that exits at once; then it sleeps with no interrupt enabled and the vCPU still loaded.
RUN_AND_SLEEP = RUN.replace("    b 1b\n", "2:  wfi\n    b 2b\n")
EXIT_WITH_SECRETS = KEEP_SECRETS.replace("    b 1b\n", "    wfi\n    b 1b\n")


def words_of(number: int) -> list[bytes]:
    """The VM's secret words, as they lie in memory."""
    return [struct.pack("<Q", (number + step) * FACTOR & MASK) for step in range(WORDS)]


def start(booted: Booted, slot: int, program: str) -> tuple[RigVm, list[bytes]]:
    """A VM that makes its own secret, and the secret."""
    number = secrets.randbits(63) | 1
    return start_vm(booted, slot, {VM_RAM: assemble(program)}, context=number), words_of(number)


def turn_on(booted: Booted, cpu: int, program: str, context: int) -> None:
    """Starts a CPU of the host with a program of its own."""
    frame = booted.take()
    booted.write(frame, assemble(program))
    registers = [PSCI["PSCI_CPU_ON"], cpu, frame, context, *[0] * 14]
    assert booted.link.call("call", {"cpu": 0, "regs": registers})["regs"][0] == 0


def end(booted: Booted, function: str) -> RamSnapshot:
    """RAM after the machine's end."""
    with pytest.raises(Exception, match="ended with status 0"):
        booted.link.call("call", {"cpu": 0, "regs": [PSCI[function], *[0] * 17]})
    return RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)


def frames_of_vms(booted: Booted) -> list[int]:
    """Physical addresses of all frames that are a VM's."""
    with stopped_view(booted.machine, booted.symbols) as view:
        assert checks.isolation_faults(view) == []
        return [view.frame_address(frame) for slot in view.live_vms() for frame in view.frames_of(slot)]


@pytest.mark.parametrize(
    ("function", "model"),
    [
        ("PSCI_SYSTEM_OFF", "neoverse-n1"),
        ("PSCI_SYSTEM_RESET", "neoverse-v1"),
        ("PSCI_SYSTEM_OFF", "neoverse-n2"),
        ("PSCI_SYSTEM_RESET", "max"),
    ],
)
def test_nothing_of_running_vms_is_left(function: str, model: str) -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=CPUS, cpu_model=model)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        kept: list[bytes] = []
        for cpu in range(1, CPUS):
            vm, words = start(booted, cpu, KEEP_SECRETS)
            kept += words
            booted.ok("map", vm.slot, VM_RAM + PAGE, booted.take(), 0)
            turn_on(booted, cpu, RUN, vm.contexts[0])
        vm, words = start(booted, CPUS, KEEP_SECRETS.replace(hex(VM_RAM + PAGE), hex(VM_RAM + BLOCK)))
        whole = booted.boot_info.host_ram[-1][0] + booted.boot_info.host_ram[-1][1] - BLOCK
        booted.ok("map_block", vm.slot, VM_RAM + BLOCK, whole)
        kept += words
        assert booted.call("vcpu_run", vm.contexts[0])[0] == 0
        # One that is being built, and one that is dying with everything still its own.
        booted.ok("vm_create", 8, booted.take(), 1, 0, VM_RAM, 16 << 20)
        dying, _ = start(booted, 9, KEEP_SECRETS)
        booted.ok("vm_kill", dying.slot)
        ram = RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)
        booted.machine.wait_until(
            lambda: all(ram.find(word) for word in kept[0::WORDS]), 20, "the VMs' secrets"
        )
        frames = frames_of_vms(booted)
        assert len(frames) > 3 * 6
        assert ram.find(kept[-1]), "the VM of CPU 0 has run, for as long as the payload lets it"
        ram = end(booted, function)
        assert [
            hex(frame) for frame in frames if any(os.pread(booted.machine.ram, PAGE, frame - RAM_BASE))
        ] == []
        for word in kept:
            assert ram.find(word) == []


def test_a_vm_that_only_faults_stops_too() -> None:
    """Its code and vectors lie outside its RAM: the engine answers fault after fault without an exit."""
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=2)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        vm, words = start(booted, 0, KEEP_SECRETS.replace("    b 1b\n", "    br xzr\n"))
        booted.ok("map", vm.slot, VM_RAM + PAGE, booted.take(), 0)
        turn_on(booted, 1, RUN, vm.contexts[0])
        ram = RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)
        booted.machine.wait_until(
            lambda: len(ram.find(words[2])) >= 2, 20, "the secret in memory and in the context"
        )
        ram = end(booted, "PSCI_SYSTEM_RESET")
        assert all(ram.find(word) == [] for word in words)


def test_a_cpu_that_sleeps_with_a_vcpu_loaded_does_not_stop_the_end() -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=2)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        vm, words = start(booted, 0, EXIT_WITH_SECRETS)
        booted.ok("map", vm.slot, VM_RAM + PAGE, booted.take(), 0)
        turn_on(booted, 1, RUN_AND_SLEEP, vm.contexts[0])
        ram = RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)
        booted.machine.wait_until(
            lambda: len(ram.find(words[2])) >= 2, 20, "the secret in memory and in the context"
        )
        ram = end(booted, "PSCI_SYSTEM_OFF")
        assert all(ram.find(word) == [] for word in words)
