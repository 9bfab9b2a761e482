"""A bug of the engine ends in a dump that can be read, with every CPU parked.

The shipped image has no way to provoke one, so the tests spoil a register or a word of the engine from outside, with
the debugger, while it handles a call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from boot import machines
from boot.assembly import assemble
from boot.machines import Booted, Breakpoints
from boot.rig import VM_RAM, start_vm
from bulkhead import abi
from bulkhead.image import memory_map
from bulkhead.image.memory_map import PAGE
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.panic import PanicDump, parse_panic
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.errors import EnginePanic
from bulkhead.machine.framing import encode_frame
from bulkhead.machine.qemu import RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

VERSION = abi.load().call("version").id
CPU_ON = next(line.id for line in abi.load().standards if line.name == "PSCI_CPU_ON")
CONFIG_CPUS = 2
"""Word of CONFIG that holds the number of CPUs."""
EL1 = 1
PARKING_TRIES = 300
"""How often the machine is stopped to see whether the other CPU has run into the engine."""
DATA_ABORT, INSTRUCTION_ABORT = 0x25, 0x21
WINDOW = memory_map.window("PERCPU").base
STACK = memory_map.PERCPU_AREAS[1].offset


@dataclass
class Caught:
    """A machine stopped in the engine's handler of a call, on one CPU."""

    booted: Booted
    stub: Breakpoints
    cpu: int
    handler: int
    host_root: int
    config: int
    """Physical address of CONFIG."""
    context: int
    """Physical address of the host's registers on that CPU."""

    def set(self, register: str, value: int) -> None:
        """Changes a register of the CPU in the handler."""
        self.stub.set_register(register, value, self.cpu)

    def write(self, address: int, value: int) -> None:
        """Changes a 64-bit word of RAM behind everybody's back."""
        os.pwrite(self.booted.machine.ram, value.to_bytes(8, "little"), address - RAM_BASE)

    def crash(self) -> PanicDump:
        """Lets the machine run on; the dump."""
        self.stub.forget(self.handler)
        with pytest.raises(EnginePanic) as error:
            self.booted.machine.resume()
            self.booted.machine.wait_until(lambda: False, 20, "a panic")
        dump = parse_panic(error.value.dump)
        assert dump is not None
        assert dump.complete
        assert dump.cpu == self.cpu
        return dump


@pytest.fixture(params=[0, 1], ids=["boot CPU", "second CPU"])
def caught(request: pytest.FixtureRequest) -> Iterator[Caught]:
    """Two CPUs run the host; one of them calls the engine and stops in the handler."""
    cpu = int(request.param)
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=2)) as booted:
        booted.link.call("cpu_on", {"cpu": 1})
        handler = booted.symbols.address("bulkhead_arch::exits::host_call")
        machine = booted.machine
        with stopped_view(machine, booted.symbols) as view:
            host_root = view.host_root
            config = view.physical(booted.symbols.address("CONFIG"))
            context = view.physical(context_address(cpu))
        with machine.paused():
            stub = Breakpoints(machine.gdb, machines.patient(machine))
            stub.stop_at(handler)
        machine.link.send(encode_frame([1000, "call", {"cpu": cpu, "regs": [VERSION] + [0] * 17}]))
        machine.wait_until(lambda: machine.qmp.execute("query-status")["status"] == "debug", 20, "the call")
        assert stub.register("pc", cpu) == handler
        yield Caught(booted, stub, cpu, handler, host_root, config, context)


def context_address(cpu: int) -> int:
    """Virtual address of a CPU's host context, where its stack ends."""
    return WINDOW + cpu * memory_map.PERCPU_STRIDE + memory_map.PERCPU_AREAS[2].offset


def exception_class(dump: PanicDump) -> int:
    """ESR_EL2.EC."""
    return dump.values["esr"] >> 26


def test_a_wild_jump(caught: Caught) -> None:
    caught.set("x5", 0x1234_5678)
    caught.set("pc", 0xDEAD_0000)
    dump = caught.crash()
    assert exception_class(dump) == INSTRUCTION_ABORT
    assert dump.values["elr"] == dump.values["far"] == 0xDEAD_0000
    assert dump.values["x5"] == 0x1234_5678
    assert dump.values["vector"] == 4
    assert {f"x{number}" for number in range(31)} <= dump.values.keys()
    assert {"esr", "far", "hpfar", "elr", "spsr", "sp"} <= dump.values.keys()
    assert dump.values["sp"] == context_address(caught.cpu)


def test_jumping_into_data(caught: Caught) -> None:
    caught.set("pc", caught.booted.symbols.address("VMS"))
    dump = caught.crash()
    assert exception_class(dump) == INSTRUCTION_ABORT
    assert dump.values["esr"] & 0x3C == 0x0C  # permission fault


def test_a_stack_that_overflows_meets_its_guard(caught: Caught) -> None:
    bottom = WINDOW + caught.cpu * memory_map.PERCPU_STRIDE + STACK
    caught.set("sp", bottom + 16)
    dump = caught.crash()
    assert exception_class(dump) == DATA_ABORT
    assert bottom - PAGE <= dump.values["far"] < bottom
    assert dump.values["esr"] & 0x3C == 0x04  # translation fault


def test_a_failed_check_names_its_place(caught: Caught) -> None:
    # More CPUs than the table of CPUs has: the bounds check of a CPU_ON fails.
    caught.write(caught.config + 8 * CONFIG_CPUS, 99)
    for number, value in enumerate([CPU_ON, 1, 0x4000_0000, 0]):
        caught.write(caught.context + 8 * number, value)
    dump = caught.crash()
    assert any("psci.rs" in line for line in dump.message)
    assert any("out of range" in line for line in dump.message)
    named = [caught.booted.symbols.describe(address - 4) for address in dump.backtrace]
    assert any("host_call" in name for name in named), named


def test_the_other_cpu_parks(caught: Caught) -> None:
    caught.set("pc", 0xDEAD_0000)
    caught.crash()
    machine, symbols = caught.booted.machine, caught.booted.symbols
    assert RamSnapshot(machine.ram, RAM_BASE, machine.config.memory).is_zero(caught.host_root)
    # An interrupt of UART1 wakes the boot CPU if it sleeps at EL1; a second CPU that sleeps has nothing to wake it.
    asleep = (EL1,) if caught.cpu == 0 else ()
    for _ in range(PARKING_TRIES):
        machine.link.send(b"\0")
        time.sleep(0.1)
        machine.loop.step(0)
        caught.stub.interrupt()
        levels = [caught.stub.register("cpsr", cpu) >> 2 & 3 for cpu in range(2)]
        places = [symbols.at(caught.stub.register("pc", cpu)) for cpu in range(2)]
        parked = [place is not None and place.name == "bulkhead::stop::park" for place in places]
        if parked[0] and (parked[1] or levels[1] in asleep):
            return
        caught.stub.go_on()
    pytest.fail(f"the CPUs are at EL{levels[0]} {places[0]} and EL{levels[1]} {places[1]}")


def test_registers_are_withheld_while_a_vm_is_loaded() -> None:
    secret = 0xC0DE_5EC2_E75E_C2E7
    # Every register that a call preserves holds the secret; then the VM waits for an interrupt.
    program = "\n".join([f"ldr x{number}, ={secret:#x}" for number in range(31)] + ["wfi", "b .", ".ltorg"])
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1)) as booted:
        machine = booted.machine
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        vm = start_vm(booted, 0, {VM_RAM: assemble(program)})
        handler = booted.symbols.address("bulkhead_arch::exits::vm_synchronous")
        with machine.paused():
            stub = Breakpoints(machine.gdb, machines.patient(machine))
            stub.stop_at(handler)
        run = abi.load().call("vcpu_run").id
        machine.link.send(encode_frame([1000, "call", {"cpu": 0, "regs": [run, vm.contexts[0], *[0] * 16]}]))
        machine.wait_until(lambda: machine.qmp.execute("query-status")["status"] == "debug", 20, "the exit")
        assert stub.register("x25") == secret
        stub.set_register("pc", 0xDEAD_0000, 0)
        stub.forget(handler)
        with pytest.raises(EnginePanic) as error:
            machine.resume()
            machine.wait_until(lambda: False, 20, "a panic")
        dump = parse_panic(error.value.dump)
        assert dump is not None
        assert dump.values["elr"] == 0xDEAD_0000
        assert not {f"x{number}" for number in range(31)} & dump.values.keys()
        assert f"{secret:x}" not in machine.console.text
