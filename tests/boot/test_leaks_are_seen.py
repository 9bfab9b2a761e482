"""The tests of `test_every_register.py` fail for each register whose switch or trap is taken out of the image.

Instructions of the built image become NOPs, so that nothing is compiled anew; trap bits are changed in the memory of a
running engine, from where the world switch loads them.
Source: Arm ARM DDI 0487, C6.2 (MRS, MSR (register), LDP (SIMD&FP), NOP).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from boot import everything, leaks, script
from boot.rig import Rig, allocated, booted
from boot.sweep import TABLE
from bulkhead.image import build
from bulkhead.image.elf import read_program
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.machine.qemu import RAM_BASE
from bulkhead.registers import Register, traps

pytestmark = pytest.mark.qemu
MODEL = "max"
NOP, ZERO = 0xD503_201F, 31
RT = 0x1F
LOAD_PAIR, LDP_Q = 0xFFC0_0000, 0xAD40_0000
"""Opcode of LDP (SIMD&FP, signed offset, 128 bits)."""
BLIND = {*everything.KEEPS_NOTHING, "CNTV_TVAL_EL0"}


PARTS = {
    "entry": ("enter_vm", "vm_synchronous"),
    "exit": ("leave_vm", "bulkhead_enter_host"),
    "anywhere": ("bulkhead_host_vectors", ""),
    "fp": ("bulkhead_fp_load", ""),
}
"""Where the instructions are, by the symbols around them; "" for the end of all functions."""


def patched(directory: Path, *removed: tuple[str, Callable[[int], bool]]) -> tuple[Path, list[int]]:
    """The image of the payload without such instructions in these `PARTS` of the engine, and what they were."""
    images = build.build("pinned", "payload")
    data = bytearray(images.image.read_bytes())
    symbols, base = Symbols(images.elf), read_program(images.elf).base
    words = []
    for part, is_removed in removed:
        begin, end = PARTS[part]
        last = (
            symbols.address(end)
            if end
            else max(one.address + one.size for one in symbols.all if one.is_function)
        )
        for place in range(symbols.address(begin) - base, last - base, 4):
            (word,) = struct.unpack_from("<I", data, place)
            if is_removed(word):
                struct.pack_into("<I", data, place, NOP)
                words.append(word)
    image = directory / "patched.img"
    image.write_bytes(data)
    return image, words


def accesses(
    registers: Iterable[Register], direction: str, *, zero: bool | None = None
) -> Callable[[int], bool]:
    """Recognises MRS or MSR of these registers; `zero`: only those from XZR, or only the others."""
    wanted = {script.system(register.first, direction) for register in registers}
    return lambda word: word & ~RT in wanted and zero in (None, word & RT == ZERO)


def observed(image: Path, *who: str) -> set[str]:
    """What these find on a machine with this image."""
    with booted(cpu_model=MODEL, image=image) as rig:
        found = [one.split(": ") for one in leaks.findings(leaks.observe(rig, MODEL))]
    return of_table(name for finder, name in found if finder in who)


def found_by_vms(image: Path) -> set[str]:
    """What VMs find on a machine with this image."""
    with booted(cpu_model=MODEL, image=image) as rig:
        return of_table(leaks.observe_vms(rig, MODEL))


def named(registers: Iterable[Register]) -> set[str]:
    """Names of all of them that a VM can fill."""
    return {register.name for register in registers if register.name not in BLIND}


SWITCHED = TABLE.switched()
ZEROED = [register for register in SWITCHED if register.group.at_host == "zero"]


def of_table(found: Iterable[str]) -> set[str]:
    """Registers under their names in the table."""
    names = {"SP_EL1" if name == "SP" else name.removesuffix(" at first") for name in found}
    lines = {name: TABLE.from_qemu(name) for name in names}
    return {line[0].name if line and line[0].is_single else name for name, line in lines.items()}


def test_what_the_host_would_find(tmp_path: Path) -> None:
    """Without its zeroing each switched register is the VM's while the host runs."""
    image, words = patched(tmp_path, ("exit", accesses(ZEROED, "w", zero=True)))
    assert len(words) == len(ZEROED)
    assert named(ZEROED) <= observed(image, "host", "cpu")


def test_what_another_vm_would_find(tmp_path: Path) -> None:
    """Without being zeroed and loaded it is the next VM's, too; and its own is lost."""
    image, words = patched(
        tmp_path, ("exit", accesses(ZEROED, "w", zero=True)), ("entry", accesses(ZEROED, "w", zero=False))
    )
    assert len(words) == 2 * len(ZEROED)
    assert named(r for r in ZEROED if r.group.vm == "switched") <= found_by_vms(image)


LIVING = ("SCTLR_EL1", "CPACR_EL1", "VBAR_EL1")
"""Without these the program of the VM does not go on."""


def test_what_a_vm_would_lose(tmp_path: Path) -> None:
    """Without being loaded each switched register is another one when the VM comes back."""
    registers = [r for r in TABLE.saved() if r.name not in LIVING]
    image, words = patched(tmp_path, ("entry", accesses(registers, "w", zero=False)))
    assert len(words) == len(registers)
    assert named(registers) <= observed(image, "lost")


def test_what_a_vm_would_get_of_the_engine(tmp_path: Path) -> None:
    """Without being saved it is what the engine had in its general registers. (A timer of that kind would not stop.)"""
    registers = [r for r in TABLE.saved() if r.name not in LIVING and not r.name.startswith("CNTV_")]
    image, words = patched(tmp_path, ("exit", accesses(registers, "r")))
    assert len(words) == len(registers)
    assert named(registers) <= observed(image, "lost")


def test_what_stays_in_the_cpu(tmp_path: Path) -> None:
    """Without being loaded each resident register, FP included, is the last vCPU's."""
    resident = TABLE.resident()
    fp = [r for r in TABLE.registers if r.group.control == "CPTR_EL2.TFP"]
    image, words = patched(
        tmp_path,
        ("anywhere", accesses(resident, "w", zero=False)),
        ("fp", accesses(fp, "w")),
        ("fp", lambda word: word & LOAD_PAIR == LDP_Q),
    )
    assert len(words) >= len(resident) + len(fp) + 16
    found = found_by_vms(image)
    assert named((*(r for r in resident if r.first[1] < 4), *fp)) <= found
    assert {*everything.OTHERS[:64]} <= found
    held_by_el2 = [r for r in TABLE.registers if r.group.about in ("CPU interface", "deferred SError")]
    assert named(r for r in held_by_el2 if r.directions == "rw") <= found


CONTROLS = ("hcr", "vtcr", "cptr", "cnthctl")
CONTEXT = struct.Struct("<10Q")
"""`host_hcr` to `vm_cnthctl` of the engine's HostContext: four controls of the host, VTTBR_EL2 and SCTLR_EL1, four of
a VM; each world switch loads them from there."""
MATRICES = "TSM"
"""Stays: with ZA and streaming mode turned on the engine itself could not save V registers."""
DENIED = ("CPUACTLR_EL1 of max", "CPUECTLR_EL1 of max")
"""UNDEFINED even so: ACTLR_EL2 is zero."""


def weaken(rig: Rig) -> None:
    """Takes all trap bits of HCR_EL2 and CPTR_EL2 that derive from the table out of the running engine."""
    with rig.machine.paused():
        stub = GdbStub(rig.machine.gdb, rig.machine.wait_until)
        head = struct.pack("<2Q", stub.register("HCR_EL2"), stub.register("VTCR_EL2"))
        places = [base + at - RAM_BASE for base, data in allocated(rig) for at in found_in(data, head)]
        assert len(places) == 1, "the context of the only CPU that runs"
        words = list(CONTEXT.unpack(os.pread(rig.machine.ram, CONTEXT.size, places[0])))
        for first in (0, 6):
            for control in ("hcr", "cptr"):
                number = first + CONTROLS.index(control)
                for name, bit in traps.BITS[f"{control.upper()}_EL2"].items():
                    if name != MATRICES and not (first and name == "TFP"):
                        words[number] = words[number] & ~(1 << bit.low) | bit.enables << bit.low
        os.pwrite(rig.machine.ram, CONTEXT.pack(*words), places[0])


def found_in(data: bytes, value: bytes) -> Iterator[int]:
    """Where it is, at addresses of words."""
    place = -1
    while (place := data.find(value, place + 1)) >= 0:
        if place % 8 == 0:
            yield place


def test_what_the_traps_keep() -> None:
    """Without them a VM uses each register that is hidden or trapped by a bit of the table, and the host reads it."""
    with booted(cpu_model=MODEL, options="mte=on") as rig:
        cpu = leaks.describe(rig, MODEL)
        filling = everything.Filling(cpu, other=False)
        frequency = everything.look(rig, 1, cpu)["CNTFRQ_EL0"]
        observer = everything.Observer.put(rig, cpu, frequency)
        weaken(rig)
        vm = everything.fill(rig, 2, filling)
        vm.run_on()
        tried = everything.read_list(vm, everything.LIST, len(filling.steps()))
        host = observer.run(everything.Look.put(rig, 3, cpu).vm.contexts[0], leaks.PATIENCE)
    by_vm = {name for number, name in enumerate(filling.tries) if tried[2 * number + 1][1] == 0}
    by_host = {name for name in cpu.registers if host[name] != script.NOT_READ}
    for domain, used in (("vm", by_vm), ("host", by_host)):
        kept = {name for name in cpu.registers if is_kept(cpu, name, domain)}
        assert len(kept) >= 30
        assert kept <= used, f"{domain}: something else than the trap refuses these"
    assert all(host[name] != script.NOT_READ for name in everything.OTHERS[:64]), "V registers"


def is_kept(cpu: everything.Cpu, name: str, domain: str) -> bool:
    """Whether nothing but one of those traps makes a read of it UNDEFINED."""
    line = TABLE.at(cpu.registers[name])
    assert line is not None
    bits = {bit for register, bit in traps.controls(line.group) if register in ("HCR_EL2", "CPTR_EL2")}
    is_undefined = cpu.told(name, domain, "r") == "undefined" and "r" in line.directions
    return is_undefined and bool(bits - {MATRICES}) and line.name not in DENIED
