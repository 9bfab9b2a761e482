"""Programs for every register that a CPU has: a VM that fills them all, a VM and a host that read them all.

Trust label: TOOL. The list is QEMU's own, as it tells it to gdb, with the registers of the table that QEMU leaves out
(the CPU interface, processor state), and V0 to V31 in halves. Two fillers differ in every bit that a register keeps:
what somebody else reads must not depend on which of them ran.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from boot import script, sweep
from boot.assembly import assemble
from boot.rig import PAGE, VM_RAM, Rig, Vm, start_vm
from boot.script import MASK, Step
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.registers import Encoding

SLOT, DUMP, GENERAL, SHARED = (VM_RAM + offset for offset in (0x10_0000, 0x10_8000, 0x10_9000, 0x10_A000))
LIST, AGAIN, ABSENT = VM_RAM + 0x11_0000, VM_RAM + 0x12_0000, VM_RAM + 0x13_0000
DEVICE = 0x0C0D_E000
REPLY = 0x1234_5678
RUN = 0xC600_000D
OTHERS = [f"v{n // 2}.d[{n % 2}]" for n in range(64)] + ["SP"]
"""What is read behind the system registers."""
GENERAL_NAMES = [f"x{n}" for n in range(31)] + [
    "flags",
    "VBAR_EL1 at first",
    "CPACR_EL1 at first",
    "SP at first",
]

FREE = {
    "SCTLR_EL1": MASK & ~(1 | 1 << 25),  # M, EE: the program has no tables and is little-endian
    "CPACR_EL1": MASK & ~(3 << 20),  # FPEN: the program reads V registers
    "DAIF": MASK & ~(1 << 9),  # D: no debug exceptions in the program
    "SPSel": MASK & ~1,  # SP_EL0 cannot be read by a program that uses it
}
"""Bits of a register that a filler may choose; all where nothing stands here."""
FIXED = {"CPACR_EL1": 3 << 20, "DAIF": 1 << 9, "SPSel": 1}
FIRST = ("CNTV_TVAL_EL0", "CNTV_CVAL_EL0")
"""Before the others: the first is a view of the second, which is far away before the timer is turned on."""
KEEPS_NOTHING = {
    "AFSR0_EL1": "zero on these CPUs",
    "AFSR1_EL1": "zero on these CPUs",
    "AMAIR_EL1": "zero on these CPUs",
    "ICC_SRE_EL1": "constant",
    "NZCV": "changed by the program's own steps; filled with the general registers",
    "SPSel": "kept as it is by the program",
}
TIME = ("CNTPCT_EL0", "CNTPCTSS_EL0", "CNTVCT_EL0", "CNTVCTSS_EL0", "CNTV_TVAL_EL0", "RNDR", "RNDRRS")
"""Differ from one read to the next."""
HOSTS_TIMER = ("CNTP_TVAL_EL0", "CNTP_CTL_EL0", "CNTP_CVAL_EL0", "ISR_EL1")
"""The host's own program sets them between two reads; a VM cannot write them."""

WAYS = {
    "HOST_CALL": "ldr x0, =0xC6000042\n mov x1, #1\n mov x2, #2\n mov x3, #3\n hvc #0",
    "WFI": "wfi",
    "MMIO_READ": f"ldr x5, ={DEVICE:#x}\n ldr w1, [x5]",
    "MMIO_WRITE": f"ldr x5, ={DEVICE:#x}\n mov w1, #0x5a\n str w1, [x5]",
    "SGI": "msr S3_0_C12_C11_5, xzr",
    "PSCI": f"ldr x0, =0xC4000003\n mov x1, #1\n ldr x2, ={VM_RAM:#x}\n mov x3, xzr\n hvc #0",
    "SHARE": f"ldr x0, =0xC6000003\n ldr x1, ={SHARED:#x}\n mov x2, xzr\n mov x3, xzr\n hvc #0",
    "MEM_FAULT": f"ldr x5, ={ABSENT:#x}\n ldr x1, [x5]",
    "IRQ": "b .",
}
"""How a filler leaves, one after the other, by the class of the exit; behind MEM_FAULT it needs a page at `ABSENT`."""
AFTER = "SHARE"
"""Behind this exit the filler reads its registers once more."""


@dataclass(frozen=True)
class Cpu:
    """The registers of a CPU model: encodings by name, first those of the table that QEMU's list lacks."""

    model: str
    registers: dict[str, Encoding]

    @classmethod
    def of(cls, model: str, stub: GdbStub) -> Cpu:
        """As QEMU describes it to gdb. KeyError for a register that the table does not know."""
        encodings = {}
        for name in stub.system_registers():
            found = sweep.TABLE.from_qemu(name, model)
            if found is None:
                raise KeyError(name)
            encodings[found[1]] = name
        for line in sweep.TABLE.registers:
            is_usable = line.group.access("vm") == "executes" and line.directions in ("rw", "r")
            if is_usable and line.is_single and model in line.group.on:
                encodings[line.first] = line.name
        return cls(model, {name: encoding for encoding, name in encodings.items()})

    def told(self, name: str, domain: str, direction: str) -> str:
        """What the table says about an access: executes, emulated, ignored, undefined."""
        return sweep.expected(self.registers[name], domain, direction, self.model)

    def line(self, name: str) -> str:
        """The name of the register in the table."""
        found = sweep.TABLE.at(self.registers[name])
        assert found is not None
        return found.name


def pattern(number: int, other: bool) -> int:
    """A value that no other register of the filler holds; the other filler's is its complement."""
    value = 0xC0DE_5EC2_1000_0001 + number * 0x0101_0001_0011_0010 & MASK
    return value ^ MASK if other else value


@dataclass(frozen=True)
class Filling:
    """What a filler tries: `tries` where the table lets nothing be kept, then `writes`, then `reads`."""

    cpu: Cpu
    other: bool
    tries: list[str] = field(init=False)
    writes: list[str] = field(init=False)
    reads: list[str] = field(init=False)

    def __post_init__(self) -> None:
        names = sorted(
            self.cpu.registers, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)
        )
        told = {name: self.cpu.told(name, "vm", "w") for name in names}
        object.__setattr__(self, "tries", [name for name in names if told[name] != "executes"])
        object.__setattr__(self, "writes", [name for name in names if told[name] == "executes"])
        object.__setattr__(self, "reads", reads(self.cpu, "vm", only_executing=True))

    def value(self, name: str) -> int:
        """What a register is given."""
        line = self.cpu.line(name)
        chosen = pattern(list(self.cpu.registers).index(name), self.other)
        return chosen & FREE.get(line, MASK) | FIXED.get(line, 0)

    def steps(self) -> list[Step]:
        """The list of the filler."""
        steps = []
        for name in self.tries:
            steps.append(Step(script.system(self.cpu.registers[name], "w"), self.value(name)))
            steps.append(Step(script.system(self.cpu.registers[name], "r")))
        for number in range(64):
            steps.append(Step(script.vector(number, "w"), pattern(400 + number, self.other)))
        steps.append(Step(script.SET_SP, pattern(470, self.other)))
        for name in self.writes:
            steps.append(Step(script.system(self.cpu.registers[name], "w"), self.value(name)))
        return steps + read_steps(self.cpu, self.reads)

    def general(self) -> list[int]:
        """x0 to x30."""
        return [pattern(500 + number, self.other) for number in range(31)]


def reads(cpu: Cpu, domain: str, *, only_executing: bool = False) -> list[str]:
    """All registers, those first whose reading causes no exception, so that they are seen as they were found."""
    told = {name: cpu.told(name, domain, "r") for name in cpu.registers}
    executing = [name for name, what in told.items() if what == "executes"]
    answered = [name for name, what in told.items() if what in ("emulated", "ignored")]
    refused = [name for name, what in told.items() if what == "undefined"]
    return executing if only_executing else executing + answered + refused


def read_steps(cpu: Cpu, names: Sequence[str]) -> list[Step]:
    """Reads of these registers, then of V0 to V31 and SP."""
    steps = [Step(script.system(cpu.registers[name], "r")) for name in names]
    return [*steps, *(Step(script.vector(number, "r")) for number in range(64)), Step(script.GET_SP)]


def paged(address: int, content: bytes) -> dict[int, bytes]:
    """Pages of a content that may be longer than one."""
    return {address + offset: content[offset : offset + PAGE] for offset in range(0, len(content), PAGE)}


def fill(rig: Rig, slot: int, filling: Filling) -> Vm:
    """A VM that fills every register and leaves in all `WAYS`."""
    general = "\n".join(f"ldr x{n}, [x0, #{8 * n}]\nmvn x{n}, x{n}" for n in range(6, 31))
    steps, again = filling.steps(), read_steps(filling.cpu, filling.reads)
    look = f"ldr x11, ={AGAIN:#x}\n bl 4b\n"
    leave = "\n".join(way + (f"\n{look}" if name == AFTER else "") for name, way in WAYS.items())
    end = f"""
    ldr     x0, ={GENERAL:#x}
    ldr     x1, [x0]
    mvn     x1, x1
    msr     nzcv, x1
    {general}
    {leave}
    """
    code = assemble(script.program(SLOT, f"ldr x0, ={DUMP:#x}\n ldr x11, ={LIST:#x}", end))
    hidden = struct.pack("<31Q", *(value ^ MASK for value in filling.general()))
    pages = paged(VM_RAM, code) | paged(LIST, script.encode(steps)) | paged(AGAIN, script.encode(again))
    return start_vm(rig, slot, {**pages, SLOT: b"", DUMP: b"", GENERAL: hidden, SHARED: b""}, vcpus=2)


def read_list(vm: Vm, address: int, count: int) -> list[tuple[int, int]]:
    """x0 and outcome of each step of a list in the VM's memory."""
    size = script.HEAD + count * script.ENTRY.size
    data = b"".join(vm.memory(address + offset, PAGE) for offset in range(0, size, PAGE))
    return script.decode(data)


@dataclass(frozen=True)
class Look:
    """A VM that reads every register that it finds at its start, and leaves by HOST_CALL."""

    vm: Vm
    names: list[str]

    @classmethod
    def put(cls, rig: Rig, slot: int, cpu: Cpu) -> Look:
        """Ready to run."""
        names = reads(cpu, "vm")
        leave = "ldr x0, =0xC6000042\n hvc #0\n5: b 5b"
        begin = f"ldr x0, ={DUMP:#x}\n{script.store_general('x0')}\n mrs x1, nzcv\n str x1, [x0, #{8 * 31}]"
        begin += f"\n mov x1, sp\n str x1, [x0, #{8 * script.SP_WORD}]\n ldr x11, ={LIST:#x}"
        steps = script.encode(read_steps(cpu, names))
        pages = paged(VM_RAM, assemble(script.program(SLOT, begin, leave))) | paged(LIST, steps)
        return cls(start_vm(rig, slot, {**pages, SLOT: b"", DUMP: b""}), names)

    def seen(self) -> dict[str, int]:
        """What it has found when it left, NOT_READ where it may not read, by name."""
        dump = struct.unpack(f"<{script.DUMP_WORDS}Q", self.vm.memory(DUMP, 8 * script.DUMP_WORDS))
        values = [value for value, _ in read_list(self.vm, LIST, len(self.names) + len(OTHERS))]
        return dict(zip([*GENERAL_NAMES, *self.names, *OTHERS], [*dump, *values], strict=True))


def look(rig: Rig, slot: int, cpu: Cpu) -> dict[str, int]:
    """What a VM finds."""
    one = Look.put(rig, slot, cpu)
    one.vm.run_on()
    return one.seen()


@dataclass(frozen=True)
class Observer:
    """A program of the host that runs a vCPU once, and reads every register that it finds afterwards."""

    rig: Rig
    names: list[str]
    steps: list[Step]
    code: int
    dump: int
    list_: int
    frequency: int
    """Ticks a second."""

    @classmethod
    def put(cls, rig: Rig, cpu: Cpu, frequency: int) -> Observer:
        """Into host RAM."""
        names = reads(cpu, "host")
        steps = read_steps(cpu, names)
        dump, slot, list_ = rig.take(), rig.take(), rig.take(script.length(steps) // PAGE + 1)
        area = rig.take(4)
        code = area + -area % 2048
        begin = f"""
    sub     sp, sp, #112
    {_saved("stp")}
    str     x30, [sp, #96]
    mov     x0, sp
    ldr     x1, ={dump:#x}
    ldr     x2, [x1, #{8 * 40}]      // the vCPU
    str     x0, [x1, #{8 * 41}]
    mov     sp, x1
    ldr     x0, [x1, #{8 * 42}]      // an interrupt after so many ticks
    mrs     x1, cntpct_el0
    add     x0, x0, x1
    msr     cntp_cval_el0, x0
    mov     x0, #1
    msr     cntp_ctl_el0, x0
    mov     x1, x2
    {_filled(6, 31)}
    ldr     x0, ={RUN:#x}
    ldr     x2, ={REPLY:#x}
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    hvc     #0
    {script.store_general("sp")}
    mrs     x0, nzcv
    str     x0, [sp, #{8 * 31}]
    mov     x0, sp
    str     x0, [sp, #{8 * script.SP_WORD}]
    msr     cntp_ctl_el0, xzr
    ldr     x11, ={list_:#x}
    """
        end = f"""
    msr     cpacr_el1, x19
    msr     vbar_el1, x13
    ldr     x1, ={dump:#x}
    ldr     x0, [x1, #{8 * 41}]
    mov     sp, x0
    {_saved("ldp")}
    ldr     x30, [sp, #96]
    add     sp, sp, #112
    isb
    ret
    """
        text = assemble(script.program(slot, begin, end))
        assert len(text) <= 3 * PAGE
        rig.write(code, text)
        return cls(rig, names, steps, code, dump, list_, frequency)

    def run(self, vcpu: int, seconds: float) -> dict[str, int]:
        """By name; x0 is the answer of `vcpu_run`, x1 the class of the exit, and so on. It ends after `seconds`."""
        ticks = int(seconds * self.frequency)
        self.rig.write(self.dump, bytes(8 * 40) + struct.pack("<3Q", vcpu, 0, ticks))
        self.rig.write(self.list_, script.encode(self.steps))
        self.rig.execute(self.code)
        dump = struct.unpack(f"<{script.DUMP_WORDS}Q", self.rig.read(self.dump, 8 * script.DUMP_WORDS))
        data = b"".join(
            self.rig.read(self.list_ + offset, PAGE) for offset in range(0, script.length(self.steps), PAGE)
        )
        seen = [value for value, _ in script.decode(data)]
        return dict(zip([*GENERAL_NAMES, *self.names, *OTHERS], [*dump, *seen], strict=True))


def _saved(operation: str) -> str:
    return "\n".join(f"{operation} x{n}, x{n + 1}, [sp, #{8 * (n - 19)}]" for n in range(19, 30, 2))


def _filled(first: int, last: int) -> str:
    return "\n".join(f"ldr x{n}, ={0x7057_AAAA_0000_0003 + n:#x}" for n in range(first, last))
