"""The register table against the CPUs: it knows every register that there is, and each one does what it says.

Sources: `engine/arch/registers/*.toml`; QEMU's own list of system registers, as it tells it to gdb; every encoding that
the architecture has (Arm ARM DDI 0487, C5.1.2), executed by a VM and by the host.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from boot import features, sweep
from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, booted, start_vm
from boot.test_traps import FOR_NOBODY
from bulkhead.image import build
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.machine.qemu import QemuConfig, QemuMachine
from bulkhead.registers import Encoding, load
from bulkhead.registers.table import MODELS, spelled

TABLE = load()
SLOT, STACK, RESULTS = VM_RAM + 0x10_0000, VM_RAM + 0x10_1000, VM_RAM + 0x11_0000
DIRECTIONS = {"r": sweep.READ, "w": sweep.WRITE}
FLAGS = TABLE.named("CFINV, XAFLAG, AXFLAG")
"""The only instructions of EL0 whose op1 is not 3."""
INSTRUCTIONS = [
    ("vm", 0, "r"),
    ("vm", 0, "w"),
    ("vm", 1, "r"),
    ("vm", 1, "w"),
    ("host", 0, "w"),
    ("host", 1, "r"),
]
INSTRUCTIONS += [("host", 1, "w"), ("el0 of a vm", 0, "w"), ("el0 of a vm", 1, "w")]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """A CPU model."""
    return str(request.param)


@pytest.fixture(scope="module")
def rig(model: str) -> Iterator[Rig]:
    """A machine of that model."""
    with booted(cpu_model=model) as rig:
        yield rig


@pytest.mark.qemu
def test_every_register_of_the_cpu_is_in_the_table(model: str) -> None:
    image = build.build("pinned", "payload").image
    with QemuMachine(QemuConfig(kernel=image, cpu_model=model, halted=True)) as machine:
        names = GdbStub(machine.gdb, machine.wait_until).system_registers()
    assert len(names) > 200
    unknown = [name for name in names if TABLE.from_qemu(name, model) is None]
    assert not unknown


def swept_by_vm(rig: Rig, slot: int, instruction: int, table: bytes, first: str = "") -> bytes:
    """The table of a VM that tries every encoding, after it has executed `first`."""
    code = f"ldr x0, ={STACK + PAGE:#x}\nmov sp, x0\n"
    end = "ldr x0, =0xC6000042\n hvc #0\n3: b 3b"
    code += sweep.program(instruction, SLOT, RESULTS, end, first, len(table))
    text = assemble(code)
    pages = {VM_RAM + offset: text[offset : offset + PAGE] for offset in range(0, len(text), PAGE)}
    pages |= {RESULTS + offset: table[offset : offset + PAGE] for offset in range(0, len(table), PAGE)}
    vm = start_vm(rig, slot, {**pages, SLOT: b"", STACK: b""})
    while (way := vm.run_on()[0]) == EXITS["SGI"]:  # a write of ICC_SGI1R_EL1
        pass
    assert way == EXITS["HOST_CALL"]
    return b"".join(vm.memory(RESULTS + offset, PAGE) for offset in range(0, len(table), PAGE))


def swept_by_host(rig: Rig, instruction: int, table: bytes) -> bytes:
    """The table of the host."""
    results, slot, area = rig.take(len(table) // PAGE), rig.take(), rig.take(3)
    place = area + -area % 2048
    rig.write(results, table)
    rig.write(place, assemble(sweep.program(instruction, slot, results, "ret", count=len(table))))
    rig.execute(place)
    return b"".join(rig.read(results + offset, PAGE) for offset in range(0, len(table), PAGE))


@pytest.mark.qemu
@pytest.mark.parametrize("direction", ["r", "w"])
@pytest.mark.parametrize("domain", ["vm", "host"])
def test_every_encoding_does_what_the_table_says(rig: Rig, model: str, domain: str, direction: str) -> None:
    wanted = {e: sweep.expected(e, domain, direction, model) for e in sweep.encodings()}
    # A write that the CPU executes would change the state of the program that tries it.
    table = sweep.left_out(lambda encoding: direction == "w" and wanted[encoding] == "executes")
    slot = ["r", "w"].index(direction)
    if domain == "vm":
        check(wanted, swept_by_vm(rig, slot, DIRECTIONS[direction], table))
    else:
        check(wanted, swept_by_host(rig, DIRECTIONS[direction], table))


def check(wanted: dict[Encoding, str], seen: bytes) -> None:
    """Every encoding that was tried has done what the table says."""
    wrong = {
        f"{encoding} {register.name if (register := TABLE.at(encoding)) else 'unknown'}": (
            wanted[encoding],
            found,
        )
        for encoding, found in zip(wanted, seen, strict=True)
        if found != sweep.LEFT_OUT
        and found not in (sweep.REFUSED if wanted[encoding] == "undefined" else (sweep.EXECUTED,))
    }
    assert not wrong, f"what the table says, and what was seen: {wrong}"


@pytest.mark.qemu
@pytest.mark.parametrize("direction", ["r", "w"])
def test_el0_of_a_vm_reaches_no_more_than_its_el1(rig: Rig, model: str, direction: str) -> None:
    """Registers of EL0 have op1 = 3."""
    wanted = {
        encoding: sweep.expected(encoding, "vm", direction, model) if encoding[1] == 3 else "undefined"
        for encoding in sweep.encodings()
    }
    table = sweep.left_out(lambda encoding: direction == "w" and wanted[encoding] == "executes")
    slot = 10 + ["r", "w"].index(direction)
    check(wanted, swept_by_vm(rig, slot, DIRECTIONS[direction], table, sweep.TO_EL0))


@pytest.mark.qemu
@pytest.mark.parametrize(("domain", "op0", "direction"), INSTRUCTIONS)
def test_every_system_instruction_does_what_the_table_says(
    rig: Rig, model: str, domain: str, op0: int, direction: str
) -> None:
    """All are executed, with an address of the domain's own, but for hints, barriers and processor state."""
    of = list(sweep.instructions(op0))
    told = {e: sweep.expected(e, "host" if domain == "host" else "vm", direction, model) for e in of}
    if domain == "el0 of a vm":
        told = {e: what if e[1] == 3 or TABLE.at(e) == FLAGS else "undefined" for e, what in told.items()}
    table = sweep.left_out(lambda encoding: op0 == 0 and told[encoding] != "undefined", of)
    instruction = sweep.SYSTEM[op0][direction]
    slot = 20 + 2 * op0 + (direction == "w") + 4 * (domain == "vm")
    first = sweep.TO_EL0 if domain == "el0 of a vm" else ""
    if domain == "host":
        check(told, swept_by_host(rig, instruction, table))
    else:
        check(told, swept_by_vm(rig, slot, instruction, table, first))


ID_SPACE = [(3, 0, 0, crm, op2) for crm in range(1, 8) for op2 in range(8)]


def id_program(end: str) -> str:
    """Stores every register of the ID space from x11 on."""
    reads = "\n".join(f"mrs x0, {spelled(encoding)}\nstr x0, [x11], #8" for encoding in ID_SPACE)
    return f"{reads}\n{end}\n.ltorg"


@pytest.mark.qemu
def test_a_vm_reads_the_sanitized_id_registers(rig: Rig, model: str) -> None:
    program, results = rig.take(), rig.take()
    rig.write(program, assemble(f"ldr x11, ={results:#x}\n{id_program('ret')}"))
    rig.execute(program)
    size = 8 * len(ID_SPACE)
    raw = dict(zip(ID_SPACE, struct.unpack(f"<{len(ID_SPACE)}Q", rig.read(results, size)), strict=True))
    exit_ = "ldr x0, =0xC6000042\n hvc #0\n3: b 3b"
    code = assemble(f"ldr x11, ={RESULTS:#x}\n{id_program(exit_)}")
    vm = start_vm(rig, 2, {VM_RAM: code, RESULTS: b""})
    assert vm.run_on()[0] == EXITS["HOST_CALL"]
    seen = dict(zip(ID_SPACE, struct.unpack(f"<{len(ID_SPACE)}Q", vm.memory(RESULTS, size)), strict=True))
    sanitized = {line.register.first: line.sanitized(raw[line.register.first]) for line in TABLE.ids}
    assert seen == dict.fromkeys(ID_SPACE, 0) | sanitized
    assert seen[3, 0, 0, 4, 0] >> 32 & 0xF == 0, "SVE"
    fields = features.hidden(TABLE, raw, seen)
    assert not features.unexplained(TABLE, fields, FOR_NOBODY), (
        "hidden, and neither trapped nor without state"
    )
    check_names(model, raw)


def check_names(model: str, raw: dict[Encoding, int]) -> None:
    """The table's encodings are those of QEMU's registers of that name: they read alike."""
    image = build.build("pinned", "payload").image
    with QemuMachine(QemuConfig(kernel=image, cpu_model=model, halted=True)) as machine:
        stub = GdbStub(machine.gdb, machine.wait_until)
        found = {name: TABLE.from_qemu(name) for name in stub.system_registers()}
        told = {name: one[1] for name, one in found.items() if one is not None and one[1] in raw}
        assert len(told) > 40
        wrong = {name: encoding for name, encoding in told.items() if stub.register(name) != raw[encoding]}
    assert not wrong
