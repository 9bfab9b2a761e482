"""The pytest plugin by itself: what it selects, what it reports, and that it notices a machine left in disorder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each starts a pytest of its own

HEAD = "import pytest\nfrom bulkhead.inspect.records import Kind\n"
SPLIT = """
def test_split(machine):
    machine.ok("host_split", block=machine.blocks(Kind.HOST)[-1], table=machine.take())
def test_after(machine):
    assert len(machine.blocks(Kind.SPLIT)) == 1
"""
POKE = """
def test_poke(machine):
    machine.backend.poke(machine.layout.vm_records + 8, bytes([7]))
def test_after(machine):
    assert machine.vm_word(0, 1) == 0
"""
WRONG = """
def test_wrong(machine):
    machine.refuses("map", "TABLE_MISSING", 2, vm=64, ipa=4096)
"""
CHANGED = """
def test_changed(machine, vm):
    vm(5)
    machine.refuses("vm_kill", "BAD_STATE", vm=5)
"""
MAPPED = """
def test_mapped(machine, vm):
    one = vm(5)
    one.page()
    machine.refuses("vcpu_create", "BAD_STATE", vm=5, frame=machine.take())
"""
LIAR = """
def test_liar(machine):
    call = machine.backend.call
    def changed(cpu, registers):
        machine.backend.poke(machine.layout.vm_records + 5 * 512 + 8, bytes([7]))
        return call(cpu, registers)
    machine.backend.call = changed
    machine.ok("vm_kill")
"""
LEFT_OUT = """
@pytest.mark.qemu
def test_guest(machine): pass
@pytest.mark.host
def test_fake(machine): pass
def test_any(machine): pass
@pytest.mark.qemu
def test_of_something_else(): pass
"""


def outcome(tmp_path: Path, text: str, *options: str) -> str:
    """The output of pytest on a file with these tests."""
    path = tmp_path / "test_inner.py"
    path.write_text(HEAD + text)
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\nbulkhead_aliases = true\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(config),
        "-p",
        "no:cacheprovider",
        str(path),
        *options,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    ).stdout


def test_a_split_block_costs_a_new_machine(tmp_path: Path) -> None:
    assert "2 passed" in outcome(tmp_path, SPLIT)


def test_disorder_is_an_error_and_does_not_last(tmp_path: Path) -> None:
    output = outcome(tmp_path, POKE)
    assert "VM 0 is FREE, but its record is not zero" in output
    assert "2 passed, 1 error" in output


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (WRONG, ["map(vm=0x40, ipa=0x1000, frame=0x0, mode=0x0)", "expected TABLE_MISSING (x1 = 2: 2) and no change",
                 "got INVALID_ARGUMENT (x1 = 1)", "changed: nothing"]),
        (CHANGED, ["vm_kill(vm=0x5)", "expected BAD_STATE and no change", "got SUCCESS",
                   "changed: vm 5 state: BUILDING -> DYING"]),
        (MAPPED, ["vcpu_create(vm=0x5, index=0x0, frame=0x", "vm 5 vcpu0: 0x0 -> 0x",
                  ": kind HOST -> VCPU, vm 0 -> 5"]),
        (LIAR, ["vm_kill(vm=0x0)", "expected SUCCESS", "got BAD_STATE", "changed: vm 5 root: 0x0 -> 0x7"]),
    ],
    ids=["wrong answer", "unexpected change", "change of a frame", "change in spite of a refusal"],
)  # fmt: skip
def test_a_failure_explains_itself(tmp_path: Path, text: str, lines: list[str]) -> None:
    output = outcome(tmp_path, text)
    assert [line for line in lines if line not in output] == []


def test_what_a_backend_lacks_is_left_out_not_skipped(tmp_path: Path) -> None:
    output = outcome(tmp_path, LEFT_OUT, "-v")
    assert "3 passed, 1 deselected" in output
    assert "test_guest" not in output
    assert "skipped" not in output
