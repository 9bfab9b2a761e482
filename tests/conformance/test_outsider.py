"""The plugin as other people use it: from another directory, with the long names, and with what can go wrong."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HEAD = "import pytest\nfrom bulkhead.conformance.testing.machine import find\n"
TWO = """
def test_one(bulkhead_machine):
    assert bulkhead_machine.ok("version").results["vms"] == 64
def test_two(bulkhead_machine, bulkhead_vm):
    page = bulkhead_vm(3).page(content=b"secret")
    bulkhead_machine.refuses("reclaim", "BAD_STATE", frame=page)
def test_without_a_machine():
    pass
"""
SILENT = """
def test_before(bulkhead_machine):
    bulkhead_machine.ok("version")
def test_silence(bulkhead_machine):
    bulkhead_machine.backend.device.machine.qmp.execute("stop")
    bulkhead_machine.ok("version")
def test_after(bulkhead_machine):
    bulkhead_machine.ok("version")
"""
WRONG = """
def test_wrong(bulkhead_machine):
    bulkhead_machine.refuses("map", "TABLE_MISSING", 2, vm=64, ipa=4096)
"""
ON_SOME = """
@pytest.mark.host
def test_decision(bulkhead_machine):
    pass
@pytest.mark.metal
def test_board(bulkhead_machine):
    pass
@pytest.mark.metal
def test_another(bulkhead_machine):
    pass
"""
RAW = """
def test_raw(bulkhead_machine):
    bulkhead_machine.vm_word(0, 0)
@pytest.mark.raw_memory
def test_marked(bulkhead_machine):
    bulkhead_machine.vm_word(0, 0)
"""
LONG = """
import time
def test_long(bulkhead_machine):
    print("begun", flush=True)
    time.sleep(60)
"""
LEFT = """
def test_left(bulkhead_machine):
    root = bulkhead_machine.take()
    answer = bulkhead_machine.backend.call(0, [find("vm_create").id, 9, root, 1, 0, 1 << 30, 4096, *[0] * 11])
    assert answer[0] == 0
def test_after_it(bulkhead_machine):
    bulkhead_machine.ok("vm_create", vm=9, root=bulkhead_machine.take(), vcpus=1, ram0_base=1 << 30, ram0_size=4096)
"""


def run(directory: Path, text: str, *options: str, seconds: int = 200) -> tuple[int, str]:
    """Exit status and output of pytest on a file with these tests."""
    (directory / "test_inner.py").write_text(HEAD + text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_inner.py", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, cwd=directory
    )
    return done.returncode, done.stdout + done.stderr


def test_long_names_on_the_host_backend(tmp_path: Path) -> None:
    status, output = run(tmp_path, TWO)
    assert status == 0, output
    assert "bulkhead: host" in output
    assert "3 passed" in output


def test_short_names_are_off_unless_asked_for(tmp_path: Path) -> None:
    status, output = run(tmp_path, "def test_short(machine): pass\n")
    assert (status, "fixture 'machine' not found" in output) == (1, True)
    assert run(tmp_path, "def test_short(machine): pass\n", "-o", "bulkhead_aliases=true")[0] == 0


def test_unknown_backend(tmp_path: Path) -> None:
    status, output = run(tmp_path, TWO, "--bulkhead-backend", "moon")
    assert status == 4
    assert re.search(
        r"invalid choice: '?moon'? \(choose from '?host'?, '?qemu'?, '?metal'?, '?all'?\)", output
    )


def test_metal_without_a_serial_device(tmp_path: Path) -> None:
    status, output = run(tmp_path, TWO, "--bulkhead-backend", "metal")
    assert status == 4
    assert "no serial device; add --bulkhead-serial PATH" in output


def test_a_serial_device_for_nobody(tmp_path: Path) -> None:
    status, output = run(tmp_path, TWO, "--bulkhead-serial", "/dev/ttyUSB0")
    assert (status, "--bulkhead-serial is for --bulkhead-backend metal or all" in output) == (4, True)


def test_a_missing_device_costs_only_the_tests_that_need_it(tmp_path: Path) -> None:
    options = ("--bulkhead-backend", "all", "--bulkhead-serial", "/dev/no-such-port")
    status, output = run(tmp_path, ON_SOME, *options)
    assert status == 1
    assert "1 passed, 2 errors" in output
    assert "the serial device cannot be opened" in output
    assert "serial ports here:" in output
    second = output[output.index("ERROR at setup of test_another") :]
    assert "the backend 'metal' was lost: the serial device cannot be opened" in second.splitlines()[1]


def test_a_failure_is_repeated_by_the_command_that_it_prints(tmp_path: Path) -> None:
    _, output = run(tmp_path, WRONG)
    wanted = [
        "map(vm=0x40, ipa=0x1000, frame=0x0, mode=0x0)",
        "expected TABLE_MISSING",
        "got INVALID_ARGUMENT (x1 = 1)",
        "changed: nothing",
    ]
    assert [line for line in wanted if line not in output] == []
    command = output[output.index("run it again") :].splitlines()[1]
    again = subprocess.run(
        shlex.split(command), capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
    )
    assert "got INVALID_ARGUMENT (x1 = 1)" in again.stdout, again.stdout + again.stderr
    assert "1 failed" in again.stdout


def test_the_command_also_works_where_pytest_was_called_from_elsewhere(tmp_path: Path) -> None:
    """With the interpreter below the directory of the call, another root, and an option of the configuration."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "test_inner.py").write_text('def test_wrong(machine):\n    machine.ok("vm_kill", vm=0)\n')
    (inner / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "python").symlink_to(sys.executable)
    words = ["-m", "pytest", "-p", "no:cacheprovider", "inner", "-o", "bulkhead_aliases=true"]
    first = subprocess.run(
        [tmp_path / "python", *words], capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    command = first.stdout[first.stdout.index("run it again") :].splitlines()[1]
    again = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "got BAD_STATE" in again.stdout, again.stdout + again.stderr


@pytest.mark.qemu
def test_on_a_pseudo_terminal(tmp_path: Path) -> None:
    status, output = run(
        tmp_path, TWO + RAW + LEFT, "--bulkhead-backend", "metal", "--bulkhead-serial", "qemu"
    )
    assert status == 1
    assert "bulkhead: metal at qemu" in output
    assert re.search(r"^test_inner.py::test_two\[metal\] PASSED", output, re.M), "names, before tests run"
    assert "NeedsRawMemory: the backend 'metal' cannot read memory" in output
    assert "mark the test with @pytest.mark.raw_memory" in output
    assert "1 test functions were left out: they are marked raw_memory" in output
    assert "after 5 tests records and tables were not checked" in output
    assert "the test did not leave the machine as it found it:\n  the host no longer reaches 0x" in re.sub(
        r"\nE? +", "\n  ", output
    )
    assert "1 failed, 5 passed, 1 deselected, 1 error" in output


@pytest.mark.qemu
def test_a_machine_that_falls_silent_costs_one_test(tmp_path: Path) -> None:
    status, output = run(tmp_path, SILENT, "--bulkhead-backend", "metal", "--bulkhead-serial", "qemu")
    assert status == 1
    assert "1 failed, 2 passed" in output
    assert "no answer to 'call': the device has stopped answering; the engine's console ends with" in output
    assert "--bulkhead-backend metal --bulkhead-serial qemu" in output


@pytest.mark.qemu
@pytest.mark.parametrize("options", [("qemu",), ("metal", "--bulkhead-serial", "qemu")], ids=["qemu", "metal"])
def test_a_run_that_is_terminated_leaves_no_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    path, files = tmp_path / "test_inner.py", tmp_path / "files"
    path.write_text(LONG)
    files.mkdir()
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(path)]
    command += ["--bulkhead-backend", *options]
    child = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(files)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert any("begun" in line for line in child.stdout) and list(files.glob("bulkhead-*"))
        child.terminate()
        child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert list(files.glob("bulkhead-*")) == []
