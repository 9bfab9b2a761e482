"""Hardware that answers as QEMU's never does: a debugger changes what an instruction of the shipped engine reads.

Trust label: TOOL. A fault is told by a function of the engine, an instruction in it and what becomes of its register;
the CPU that comes there is stopped, its register is changed, and it goes on. All else is the real machine's. Encodings:
Arm ARM DDI 0487, C4.1; stops and register changes: gdb manual, appendix E (packets Z1, P and vCont).
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from boot.machines import Booted, Breakpoints
from bulkhead.errors import MachineTimeout
from bulkhead.image import build
from bulkhead.image.elf import read_program
from bulkhead.inspect.symbols import LABEL_REACH, Symbols
from bulkhead.machine.link import Link
from bulkhead.machine.qemu import QemuConfig, QemuMachine

STOPPED = re.compile(rb"\$T0[0-9a-f]thread:0*([0-9a-f]+);")
SECONDS = 20.0
ENCODING = re.compile(r"S([23])_(\d)_C(\d+)_C(\d+)_(\d)")
NAMES = {
    "CurrentEL": "S3_0_C4_C2_2",
    "CTR_EL0": "S3_3_C0_C0_1",
    "DISR_EL1": "S3_0_C12_C1_1",
    "ICC_HPPIR1_EL1": "S3_0_C12_C12_2",
    "ICC_IAR1_EL1": "S3_0_C12_C12_0",
    "ICH_VTR_EL2": "S3_4_C12_C11_1",
    "ID_AA64DFR0_EL1": "S3_0_C0_C5_0",
    "ID_AA64ISAR0_EL1": "S3_0_C0_C6_0",
    "ID_AA64MMFR0_EL1": "S3_0_C0_C7_0",
    "ID_AA64MMFR1_EL1": "S3_0_C0_C7_1",
    "ID_AA64PFR0_EL1": "S3_0_C0_C4_0",
    "ID_AA64PFR1_EL1": "S3_0_C0_C4_1",
    "PMBIDR_EL1": "S3_0_C9_C10_7",
    "TRBIDR_EL1": "S3_0_C9_C11_7",
}
"""Registers by their encodings (D19)."""
OPERAND, OPERANDS, INDEXED = 0x1F, 0x3FF, 0x1F03FF
"""Bits of an instruction that name its registers: of one, two and three."""
LOAD_WORD, STORE_WORD = 0xB9400000, 0xB9000000
LOAD_INDEXED = 0xF8607800
CSET_NE = 0x9A9F07E0
"""LDR Wt, [Xn]; STR Wt, [Xn]; LDR Xt, [Xn, Xm, LSL #3]; CSET Xd, NE."""


def mrs(register: str) -> tuple[int, int]:
    """The read of a system register into any register: the word, and which of its bits are free."""
    return _system(register) | 1 << 21, OPERAND


def msr(register: str) -> tuple[int, int]:
    """The write of a system register."""
    return _system(register), OPERAND


def _system(register: str) -> int:
    found = ENCODING.fullmatch(NAMES.get(register, register))
    assert found is not None, register
    op0, op1, crn, crm, op2 = (int(part) for part in found.groups())
    return 0xD5000000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5


@dataclass(frozen=True)
class Fault:
    """At `instruction` (its word, and which bits of it are free) of `function`, wherever it occurs there, `change` gets
    the value of its register (bits 4:0 name it, unless `register` does) and answers the one to go on with.

    `when`: "result" changes what it has read, "operand" what it is about to use, "instead" does not execute it: the
    debugger stands in for a register that this CPU lacks. `occurrence` takes one of several; it happens `times` times.
    """

    function: str
    instruction: tuple[int, int]
    change: Callable[[int], int]
    when: Literal["result", "operand", "instead"] = "result"
    times: int = 1
    occurrence: int | None = None
    register: str = ""


def field(low: int, value: int, width: int = 4) -> Callable[[int], int]:
    """Another value of a field of a register."""
    mask = (1 << width) - 1 << low
    return lambda before: before & ~mask | value << low


class Faults(Breakpoints):
    """The faults of one machine. They happen while somebody waits with `wait_until`."""

    def __init__(self, machine: QemuMachine, symbols: Symbols) -> None:
        super().__init__(machine.gdb, machine.wait_until)
        self._machine, self._symbols = machine, symbols
        program = read_program(symbols.path)
        self._text, self._base = program.flat(), program.base
        self._armed: dict[int, tuple[Fault, int]] = {}
        self._left: dict[Fault, int] = {}
        self.happened: list[tuple[Fault, int]] = []
        """What happened, with the value that the register had."""

    @contextmanager
    def armed(self, *faults: Fault) -> Iterator[None]:
        """The faults happen in the block, to a machine that runs."""
        self.interrupt()
        self.arm(*faults)
        self.go_on()
        try:
            yield
        finally:
            if self._machine.alive and self._armed:
                self.interrupt()
                self.disarm()
                self.go_on()

    def arm(self, *faults: Fault) -> None:
        """From now on they happen; the machine is stopped."""
        for fault in faults:
            self._left[fault] = fault.times
            found = self.places(fault.function, fault.instruction)
            for address in found if fault.occurrence is None else [found[fault.occurrence]]:
                place = address + (4 if fault.when == "result" else 0)
                self._armed[place] = (fault, self._word(address) & OPERAND)
                self.stop_at(place)

    def disarm(self) -> None:
        """Nothing happens any more; the machine is stopped."""
        for place in self._armed:
            self.forget(place)
        self._armed.clear()

    def places(self, function: str, instruction: tuple[int, int]) -> list[int]:
        """Addresses of an instruction in a function, or behind a label; at least one."""
        word, free = instruction
        symbol = next(
            one for one in self._symbols.all if one.name == function or one.name.endswith("::" + function)
        )
        addresses = range(symbol.address, symbol.address + (symbol.size or LABEL_REACH), 4)
        found = [address for address in addresses if self._word(address) & ~free == word & ~free]
        assert found, f"{function} has no instruction {word:#x}"
        return found

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Waits as the machine does, and lets the faults happen."""
        limit = time.monotonic() + seconds
        while not condition():
            stop = STOPPED.search(self._buffer) if self._armed else None
            if stop is not None:
                self._channel.send(b"+")
                self._happen(int(stop[1], 16) - 1)
                self.go_on()
            elif time.monotonic() > limit:
                raise MachineTimeout(
                    f"waited {seconds:g} s for {what} in vain", where="a machine with faults"
                )
            else:
                self._machine.pump(0.1)

    def is_stopped(self) -> bool:
        """Whether something has stopped the machine that went on."""
        return STOPPED.search(self._buffer) is not None

    def _happen(self, cpu: int) -> None:
        place = self.register("pc", cpu)
        fault, number = self._armed[place]
        name = fault.register or f"x{number}"
        before = 0 if name == "x31" else self.register(name, cpu)
        if name != "x31":
            self.set_register(name, fault.change(before), cpu)
        self.happened.append((fault, before))
        self._left[fault] -= 1
        if fault.when == "instead":
            self.set_register("pc", place + 4, cpu)
        if not self._left[fault]:
            for one in [one for one, (other, _) in self._armed.items() if other == fault]:
                self.forget(one)
                del self._armed[one]
        elif self.register("pc", cpu) == place:
            self.forget(place)
            self._step(cpu)
            self.stop_at(place)

    def _step(self, cpu: int) -> None:
        """One instruction of one CPU."""
        self._buffer.clear()
        command = f"vCont;s:{cpu + 1:x}"
        self._channel.send(f"${command}#{sum(command.encode()) & 0xFF:02x}".encode())
        self._wait(lambda: STOPPED.search(self._buffer) is not None, SECONDS, "a CPU to step")
        self._channel.send(b"+")

    def _word(self, address: int) -> int:
        offset = address - self._base
        return int.from_bytes(self._text[offset : offset + 4], "little")


@contextmanager
def boot(config: QemuConfig, *faults: Fault) -> Iterator[tuple[Booted, Faults]]:
    """A machine in which the faults happen while it boots, and others as they are armed."""
    symbols = Symbols(build.build("pinned", "payload").elf)
    with QemuMachine(dataclasses.replace(config, halted=True), say=print) as machine:
        found = Faults(machine, symbols)
        found.arm(*faults)
        found.go_on()
        link = Link(machine.link, found.wait_until)
        link.event("ready")
        machine.resume()
        booted = Booted(machine, link, symbols=symbols)
        booted.next_frame = booted.boot_info.split_block[0] + 4096
        yield booted, found
