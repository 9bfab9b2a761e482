"""The build option `spectre-bhb`: the branch history that EL1 has trained is overwritten at each entry to EL2.

The emulator has no such history, so what is tested is that the sequence is there, at every vector that a lower level
can cause, that it runs as often as it must, and that an image with it works and is slower by just that.
Source: Arm, "Spectre-BHB", March 2022: a loop of 32 branches for Neoverse V1 and N2, 24 for N1, then DSB and ISB.
"""

from __future__ import annotations

import json

import pytest

from boot import leaks
from boot.assembly import assemble
from boot.rig import EXITS, VM_RAM, booted, start_vm
from boot.test_instructions import BASELINE, TOLERANCE, measure
from bulkhead.image.build import Images, build
from bulkhead.image.elf import read_program
from bulkhead.inspect.symbols import Symbols
from bulkhead.trace.probe import LOADED, STORED, Probe

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
LOOPS = 32
SEQUENCE = assemble(f"mov x3, #{LOOPS}\n1: b 2f\n2: subs x3, x3, #1\n b.ne 1b\n dsb nsh\n isb")
DSB_NSH = int.from_bytes(SEQUENCE[-8:-4], "little")
COST = 1 + 3 * LOOPS + 2
VECTOR = 0x80
ENTRIES = [("host", 8)] + [("vm", number) for number in (8, 9, 10, 11)]
"""Vector tables and numbers for exceptions of a lower level in AArch64; those that a lower level cannot cause end in
the panic dump (`test_vectors.py`)."""
TIMES = {"host_call": 1, "vm_call": 1, "mmio_read": 2, "mmio_write": 2, "wfi": 2, "sgi": 2}
"""Entries to EL2 on each measured path."""


@pytest.fixture(scope="module")
def images() -> Images:
    return build("pinned", "payload", ("spectre-bhb",))


def vector(images: Images, table: str, number: int) -> bytes:
    """The instructions at a vector."""
    program = read_program(images.elf)
    start = Symbols(images.elf).address(f"bulkhead_{table}_vectors") + VECTOR * number - program.base
    return bytes(program.flat()[start : start + VECTOR])


def is_store(word: int) -> bool:
    """STP of 64-bit registers or STR to [SP, #offset] (Arm ARM DDI 0487, C6.2)."""
    return word & 0xFFC0_03E0 in (0xA900_03E0, 0xF900_03E0)


@pytest.mark.parametrize(("table", "number"), ENTRIES)
def test_nothing_but_stores_comes_before_it(images: Images, table: str, number: int) -> None:
    code = vector(images, table, number)
    before, found, after = code.partition(SEQUENCE)
    assert found and after, "the sequence is not within the vector"
    words = [int.from_bytes(before[place : place + 4], "little") for place in range(0, len(before), 4)]
    assert all(map(is_store, words)), "an instruction that may branch or load"
    assert SEQUENCE not in vector(build("pinned", "payload"), table, number), "the shipped image has it"


def test_it_runs_at_every_entry_before_anything_is_loaded(images: Images) -> None:
    """By the instruction trace of a VM that leaves by a call, a WFI and an interrupt, and of the host's calls."""
    program = assemble("mov x1, #7\n ldr x0, =0xC6000042\n hvc #0\n wfi\n b .\n .ltorg")
    vectors = Symbols(images.elf).address("bulkhead_host_vectors")
    with Probe(images.elf, capacity=1 << 18) as probe:
        first = (vectors - probe.base) // 4
        barriers = {
            vectors + 4 * place
            for place, word in enumerate(probe.words[first : first + 0x400])
            if word == DSB_NSH
        }
        with booted(image=images.image, extra=probe.options()) as rig:
            vm = start_vm(rig, 0, {VM_RAM: program})
            with probe.recording() as records:
                classes = [vm.run_on()[0], vm.run_on()[0], vm.run()[0]]
    assert classes == [EXITS["HOST_CALL"], EXITS["WFI"], EXITS["IRQ"]]
    page, is_overwritten, entries = range(vectors, vectors + 0x1000), False, 0
    for record in (one for one in records if one.cpu == 0):
        if record.pc in barriers:
            is_overwritten, entries = True, entries + 1
        elif record.kind == STORED and record.pc in page:
            is_overwritten = False  # a new entry saves registers first
        elif record.kind == LOADED:
            assert is_overwritten, (
                f"the instruction at {record.pc:#x} loads before the history is overwritten"
            )
    assert entries >= 2 * len(classes)


def test_what_it_costs(images: Images) -> None:
    """Exactly the sequence, once for each entry: so it runs as often as it says."""
    measured, plain = measure(images.image), measure()
    assert measured == {path: count + COST * TIMES[path] for path, count in plain.items()}
    accepted = json.loads(BASELINE.read_text())["with_spectre_bhb"]
    longer = {path for path, count in measured.items() if count > accepted[path] * TOLERANCE}
    assert not longer, "run tests/boot/test_instructions.py as a program to record"


def test_a_vm_runs_on_it(images: Images) -> None:
    """With every register, and in every way of leaving."""
    with booted(image=images.image, cpu_model="neoverse-v1") as rig:
        assert not leaks.findings(leaks.observe(rig, "neoverse-v1"))
