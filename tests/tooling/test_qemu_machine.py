"""The QEMU driver: what a machine says is noticed, and no machine outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bulkhead.errors import MachineError, MachineTimeout
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.errors import EnginePanic, MachineDied
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.machine.qemu import KERNEL_ADDRESS, MIB, RAM_BASE, QemuConfig, QemuMachine
from tooling.bare import bare_image

pytestmark = pytest.mark.qemu

HERE = Path(__file__).resolve().parent
PANIC = "BULKHEAD PANIC cpu=0\nesr=0xf2000001\nBULKHEAD PANIC END\n"


def config(tmp_path: Path, text: str = "hello\n", **more: object) -> QemuConfig:
    image = bare_image(tmp_path / "bare.img", text)
    return QemuConfig(kernel=image, memory=128 * MIB, icount=True, **more)  # type: ignore[arg-type]  # its fields


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def gone(pid: int, seconds: float = 10) -> bool:
    limit = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    return not alive(pid)


def test_console_ram_and_registers(tmp_path: Path) -> None:
    with QemuMachine(config(tmp_path)) as machine:
        machine.wait_until(lambda: "hello\n" in machine.console.text, 20, "a greeting")
        with machine.paused():
            ram = RamSnapshot(machine.ram, RAM_BASE, machine.config.memory)
            assert ram.read(KERNEL_ADDRESS + 56, 4) == b"ARM\x64"
            stub = GdbStub(machine.gdb, machine.wait_until)
            assert stub.register("x1") == 0x0900_0000
            assert KERNEL_ADDRESS <= stub.register("pc") < KERNEL_ADDRESS + 4096
            assert stub.register("pc", 1) < KERNEL_ADDRESS  # the second CPU is off
            assert stub.register("VTTBR_EL2") == 0
            with pytest.raises(MachineError, match="no register"):
                stub.register("VTTBR_EL9")
        assert machine.qmp.execute("query-status")["running"]
        with pytest.raises(MachineError, match="refused"):
            machine.qmp.execute("no-such-command")


def test_a_panic_ends_every_wait_with_the_decoded_dump(tmp_path: Path) -> None:
    given = config(tmp_path, "booting\n" + PANIC, decode_panic=lambda dump: f"decoded {len(dump)}")
    with (
        pytest.raises(EnginePanic, match="decoded") as caught,
        QemuMachine(given) as machine,
    ):
        machine.wait_until(lambda: False, 20, "nothing")
    assert caught.value.dump == PANIC.strip()


def test_a_dump_that_breaks_off_is_still_a_panic(tmp_path: Path) -> None:
    with (
        pytest.raises(EnginePanic),
        QemuMachine(config(tmp_path, "BULKHEAD PANIC cpu=0\nesr=0x0\n")) as machine,
    ):
        machine.wait_until(lambda: False, 20, "nothing")


def test_bad_patterns_end_a_run_unless_expected(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="panicked at"),
        QemuMachine(config(tmp_path, "panicked at nowhere\n")) as machine,
    ):
        machine.wait_until(lambda: False, 20, "nothing")
    expected = config(tmp_path, "panicked at nowhere\n", ignore=("panicked at",))
    with QemuMachine(expected) as machine:
        machine.wait_until(lambda: "nowhere\n" in machine.console.text, 20, "the pattern")
        machine.check()


def test_waits_end_and_say_what_for(tmp_path: Path) -> None:
    with QemuMachine(config(tmp_path)) as machine:
        start = time.monotonic()
        with pytest.raises(MachineTimeout, match=r"a miracle(.|\n)*hello"):
            machine.wait_until(lambda: False, 0.5, "a miracle")
        assert time.monotonic() - start < 5


def test_the_whole_run_has_a_limit(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineTimeout, match="did not end within"),
        QemuMachine(config(tmp_path), time_limit=1) as machine,
    ):
        machine.wait_until(lambda: False, 60, "nothing")


def test_death_of_qemu_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(MachineDied), QemuMachine(config(tmp_path)) as machine:
        os.kill(machine.pid, signal.SIGKILL)
        machine.wait_until(lambda: False, 20, "nothing")


def test_a_refused_command_line_tells_what_qemu_said(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineDied, match="no-such-option"),
        QemuMachine(config(tmp_path, extra=("-no-such-option",))),
    ):
        pass


def test_no_machine_after_an_exception(tmp_path: Path) -> None:
    pids = []
    with pytest.raises(ZeroDivisionError), QemuMachine(config(tmp_path)) as machine:
        pids.append(machine.pid)
        raise ZeroDivisionError
    assert gone(pids[0])


CHILD = """
import sys, time
from pathlib import Path
from bulkhead.machine.qemu import QemuConfig, QemuMachine, interrupt_on_termination
interrupt_on_termination()
with QemuMachine(QemuConfig(kernel=Path(sys.argv[1]), memory=128 << 20)) as machine:
    print(machine.pid, flush=True)
    machine.wait_until(lambda: False, 60, "nothing")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_machine_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    image = bare_image(tmp_path / "bare.img", "hello\n")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "tooling")}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(image)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup may have changed for all tests
    )
    try:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert alive(pid)
        child.send_signal(number)
        assert child.wait(20) != 0
        assert gone(pid)
    finally:
        child.kill()
        child.wait()


def test_the_line_for_a_shell_starts_the_same_machine(tmp_path: Path) -> None:
    lines: list[str] = []
    with QemuMachine(config(tmp_path), say=lines.append):
        pass
    finished = subprocess.run(
        ["timeout", "--foreground", "3", "sh", "-c", f"cd {tmp_path}; exec {lines[0]}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert "hello" in finished.stdout
