"""Every system register that QEMU describes to gdb: a VM writes a pattern to it, and nobody else finds it.

Who looks: the host after each exit, a VM that runs on the CPU afterwards, QEMU's gdb stub, and a search of all RAM that
is the host's. Where a plain write is impossible, it is tried all the same, and is refused as the table says.
`test_leaks_are_seen.py` shows, register by register, that these tests fail where the engine's code is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from boot import everything, leaks
from boot.assembly import assemble
from boot.everything import KEEPS_NOTHING, WAYS
from boot.leaks import Observation
from boot.rig import Rig, booted
from boot.sweep import TABLE
from bulkhead import abi
from bulkhead.registers.table import MODELS

pytestmark = pytest.mark.qemu
STANDARDS = {line.name: line.id for line in abi.load().standards}
OFF = 1
OPTIONS = {"max": "mte=on"}
"""Properties of the machine: with memory for tags the CPU has all registers of memory tagging."""


@dataclass(frozen=True)
class Seen:
    """A machine after two VMs that fill all registers."""

    model: str
    rig: Rig
    observation: Observation


@pytest.fixture(scope="module", params=MODELS)
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """One machine for each CPU model."""
    with booted(cpu_model=request.param, options=OPTIONS.get(request.param, "")) as rig:
        yield Seen(request.param, rig, leaks.observe(rig, request.param))


def test_every_register_that_can_be_written_was(seen: Seen) -> None:
    """In the two VMs they differ; the others are refused, or keep nothing."""
    kept = leaks.kept(seen.observation)
    cpu = seen.observation.cpu
    assert len(cpu.registers) > 240
    assert {*cpu.registers, *everything.OTHERS} == kept.keys()
    writable = {name for name in cpu.registers if cpu.told(name, "vm", "w") in ("executes", "emulated")} | {
        *everything.OTHERS
    }
    without = {name for name in writable if not kept[name]}
    constant = {name for name in without if cpu.line(name) in KEEPS_NOTHING} | {"TCO"}
    assert without <= constant, "a write that changed nothing"
    changing = {name for name in kept.keys() - writable if kept[name]} - {*everything.TIME}
    assert not changing, "what a VM cannot write is the same for every VM"
    classes = {TABLE.at(encoding).group.vm for encoding in cpu.registers.values()}  # type: ignore[union-attr]  # all are in it
    assert classes >= {
        "switched",
        "resident",
        "constant",
        "trapped",
        "trapped: ignored",
        "trapped: emulated",
        "hidden",
    }


def test_nobody_finds_what_a_vm_has_written(seen: Seen) -> None:
    assert not leaks.findings(seen.observation)
    assert [fill.host.keys() for fill in seen.observation.fills] == [WAYS.keys()] * 2


def test_the_hosts_memory_holds_none_of_it(seen: Seen) -> None:
    assert all(len(leaks.secrets(fill)) > 100 for fill in seen.observation.fills)
    assert not leaks.in_memory(seen.rig, seen.observation)
    vm = seen.observation.fills[0].vm
    context = seen.rig.raw(vm.contexts[0], 4096)
    assert any(value in context for value in leaks.secrets(seen.observation.fills[0])), "the search is blind"


def test_the_state_of_sve_is_never_touched(seen: Seen) -> None:
    """Bits 127:0 of Z are V, which a VM has; all else traps, and stays what it was at reset."""
    for fill in seen.observation.fills:
        state = {name: value for name, value in fill.cpu.items() if name[0] in "zpf"}
        assert len(state) == (0 if seen.model == "neoverse-n1" else 32 + 16 + 1)
        assert not any(state.values())


def test_registers_of_a_vm_that_was_killed_while_loaded(seen: Seen) -> None:
    """Nothing was saved, and what stayed in the CPU is not the next one's."""
    rig, observation = seen.rig, seen.observation
    filler = everything.fill(rig, 8, observation.fills[0].filling)
    filler.run_on()
    rig.ok("vm_kill", 8)
    observation.looks["after a kill"] = everything.look(rig, 9, observation.cpu)
    assert not leaks.findings(observation)


RUN_AND_GO_OFF = """
1:  ldr     x0, ={run:#x}
    ldr     x1, ={vcpu:#x}
    mov     x2, xzr
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    hvc     #0
    cbnz    x0, 2f
    cbz     x1, 1b                   // an interrupt of the host
2:  ldr     x1, ={done:#x}
    mov     x0, #1
    str     x0, [x1]
    ldr     x0, =0x84000002          // CPU_OFF
    hvc     #0
    .ltorg
"""


def run_on_a_cpu_that_goes_off(rig: Rig, vcpu: int) -> None:
    """CPU 1 is turned on, runs the vCPU to an exit, and goes off with it."""
    program, done = rig.take(), rig.take()
    rig.write(done, bytes(8))
    rig.write(program, assemble(RUN_AND_GO_OFF.format(run=everything.RUN, vcpu=vcpu, done=done)))
    assert standard(rig, "PSCI_CPU_ON", 1, program) == 0
    rig.machine.wait_until(lambda: any(rig.read(done, 8)), 20, "the vCPU's exit on CPU 1")
    rig.machine.wait_until(lambda: standard(rig, "PSCI_AFFINITY_INFO", 1) == OFF, 10, "CPU 1 to go off")


def standard(rig: Rig, name: str, *arguments: int) -> int:
    """x0 of a PSCI call."""
    registers = [STANDARDS[name], *arguments]
    return int(rig.link.call("call", {"cpu": 0, "regs": registers + [0] * (18 - len(registers))})["regs"][0])


def test_registers_of_a_cpu_that_went_off_with_a_vm_loaded(seen: Seen) -> None:
    rig, observation = seen.rig, seen.observation
    filler = everything.fill(rig, 10, observation.fills[1].filling)
    run_on_a_cpu_that_goes_off(rig, filler.contexts[0])
    assert filler.memory(everything.LIST + 40, 8) != bytes(8), "it ran"
    look = everything.Look.put(rig, 11, observation.cpu)
    run_on_a_cpu_that_goes_off(rig, look.vm.contexts[0])
    observation.looks["after CPU 1 was off"] = look.seen()
    assert not leaks.findings(observation)
