"""The tests of `test_every_register.py` fail for each register whose switch or trap is taken out of the image.

Instructions of the built image become NOPs, so that nothing is compiled anew.
Source: Arm ARM DDI 0487, C6.2 (MRS, MSR (register), LDP (SIMD&FP), NOP).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from boot import everything, leaks, script
from boot.rig import booted
from boot.sweep import TABLE
from bulkhead.image import build
from bulkhead.image.elf import read_program
from bulkhead.inspect.symbols import Symbols
from bulkhead.registers import Register

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
