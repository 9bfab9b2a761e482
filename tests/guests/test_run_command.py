"""The main job as users call it: `python3 tasks.py run …`, its output, its exit statuses, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "tasks.py"), "run"]
SECONDS = 200.0


@pytest.fixture
def mark() -> Iterator[dict[str, str]]:
    """An environment by which every process of a run is recognised; none may be left after the test."""
    name = f"BULKHEAD_TEST_{secrets.token_hex(8)}"
    yield {**os.environ, name: "1"}
    limit = time.monotonic() + 10
    while (left := processes_with(name)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert left == []


def processes_with(name: str) -> list[str]:
    """Command lines of the living processes whose environment has the variable `name`, this one excepted."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if name.encode() in (directory / "environ").read_bytes():
                found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def run(mark: dict[str, str], *options: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *options], env=mark, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def measured(*options: str) -> list[str]:
    """What `measure` prints, which starts no machine."""
    command = [*RUN[:-1], "measure", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_a_measurement_can_be_computed_by_hand_from_the_steps_that_are_shown(tmp_path: Path) -> None:
    kernel, disk = tmp_path / "kernel", tmp_path / "disk"
    kernel.write_bytes(bytes.fromhex("00000014") + bytes(5000))
    disk.write_bytes(b"content is not measured")
    options = ["--kernel", str(kernel), "--load-address", "0x41000000"]
    options += ["--disk", str(disk), "--memory", "32M"]
    *steps, digest = measured(*options, "--verbose")
    content, chain = kernel.read_bytes(), bytes(32)
    pages = {
        hashlib.sha256(page).hexdigest(): page for page in (content[:4096], content[4096:].ljust(4096, b"\0"))
    }
    tags = ("CREATE", "RANGE", "PAGE", "VCPU", "ENTRY")
    for step in steps:
        tag, *values, _, after = step.split()
        words = struct.pack("<4Q", 1 + tags.index(tag), *(int(value, 0) for value in values[:3]))
        if len(values) == 3:
            chain = hashlib.sha256(chain + words).digest()
        elif values[3] in pages:
            chain = hashlib.sha256(chain + words + pages.pop(values[3])).digest()
        else:
            chain = bytes.fromhex(after)  # a page of the device tree or of the program that shares
        assert chain.hex() == after
    assert (chain.hex(), pages) == (digest, {})
    assert [step.split()[0] for step in steps[:6]] == ["CREATE", *["RANGE"] * 4, "PAGE"]
    assert [step.split()[0] for step in steps[-3:]] == ["VCPU", "VCPU", "ENTRY"]
    disk.write_bytes(b"other content")
    assert measured(*options)[-1] == digest
    kernel.write_bytes(content[:-1] + b"\1")
    assert measured(*options)[-1] != digest


def test_a_script_in_a_stock_guest_with_two_cpus_and_512_mib(mark: dict[str, str]) -> None:
    nonce = secrets.token_hex(16)
    script = f"printf {nonce} | sha256sum; nproc; grep MemTotal /proc/meminfo; uname -sm; exit 5"
    done = run(mark, "--script", script, "--memory", "512M", "--cpus", "2")
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == hashlib.sha256(nonce.encode()).hexdigest()
    assert lines[1] == "2"
    assert 440_000 < int(lines[2].split()[1]) < 524_288
    assert lines[3:] == ["Linux aarch64"]
    assert done.returncode == 5
    assert re.search(r"left of the VM in RAM .*frames, all zero", done.stderr)
    assert re.search(r"boot: host entered .*instructions", done.stderr)


def test_a_kernel_that_shares_by_itself_by_one_option(mark: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    content = secrets.token_bytes(1_000_000)
    image.write_bytes(content)
    script = "dmesg | grep -c 'KVM: hypervisor services detected'; head -c 1000000 /dev/vda | sha256sum"
    done = run(mark, "--script", script, "--pkvm", "--disk", str(image), "--memory", "64M", "--cpus", "1")
    assert done.stdout.split()[:2] == ["1", hashlib.sha256(content).hexdigest()]
    assert done.returncode == 0


def test_a_copy_of_a_file_is_the_guests_disk(mark: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    content = secrets.token_bytes(100_000)
    image.write_bytes(content)
    script = (
        "wc -c < /dev/vda; head -c 100000 /dev/vda | sha256sum; echo x > /dev/vda; sync; head -c 1 /dev/vda"
    )
    done = run(mark, "--script", script, "--disk", str(image), "--memory", "128M", "--cpus", "1")
    size, digest, first = done.stdout.split("\n")[:3]
    assert int(size) == -(-len(content) // 512) * 512
    assert digest.split()[0] == hashlib.sha256(content).hexdigest()
    assert first == "x"
    assert done.returncode == 0
    assert image.read_bytes() == content


def test_json_stands_alone_on_stdout(mark: dict[str, str]) -> None:
    done = run(mark, "--script", "echo hello; false", "--json", "--cpus", "1", "--memory", "128M")
    told = json.loads(done.stdout)
    assert (told["status"], told["output"], told["outcome"]) == (1, "hello\n", "destroyed")
    assert told["scrub_verified"] is True
    assert told["frames_of_vm"] == told["destroyed"]["frames"] > 1000
    assert told["stats"]["calls"]["map"] > 1000
    assert told["measurement"] == measured("--cpus", "1", "--memory", "128M")[-1]
    assert list(told["instructions"].values()) == sorted(told["instructions"].values())
    assert done.returncode == 1


def test_piped_input_drives_the_shell_and_switching_off_is_success(mark: dict[str, str]) -> None:
    done = run(mark, "--cpus", "1", "--memory", "128M", stdin="echo $((40 + 2)) from a pipe\npoweroff -f\n")
    assert "42 from a pipe" in done.stdout
    assert done.returncode == 0
    assert "VM: off" in done.stderr


def test_a_kernel_panic_is_told_with_the_last_lines(mark: dict[str, str]) -> None:
    done = run(mark, "--cpus", "1", "--memory", "128M", "--script", "echo c > /proc/sysrq-trigger")
    assert done.returncode == 3
    assert "its kernel panicked" in done.stderr
    assert "sysrq triggered crash" in done.stderr
    assert "frames, all zero" in done.stderr


def flat_binary(path: Path, *words: int) -> Path:
    path.write_bytes(struct.pack(f"<{len(words)}I", *words))
    return path


def test_a_flat_binary_that_switches_itself_off(mark: dict[str, str], tmp_path: Path) -> None:
    # movz w0, #8; movk w0, #0x8400, lsl #16 (PSCI SYSTEM_OFF, DEN 0022); hvc #0
    program = flat_binary(tmp_path / "off.bin", 0x52800100, 0x72B08000, 0xD4000002)
    done = run(mark, "--kernel", str(program), "--load-address", "0x40080000", "--memory", "64M", stdin="")
    assert done.returncode == 0
    assert "VM: off" in done.stderr


def test_a_guest_that_never_answers_runs_out_of_time(mark: dict[str, str], tmp_path: Path) -> None:
    # movz x0, #0xc00, lsl #16; ldr w1, [x0]; b .
    program = flat_binary(tmp_path / "loop.bin", 0xD2A18000, 0xB9400001, 0x14000000)
    begin = time.monotonic()
    done = run(
        mark, "--kernel", str(program), "--load-address", "0x40080000", "--memory", "64M", "--script", "true",
        "--timeout", "8",
    )  # fmt: skip
    assert done.returncode == 5
    assert "the hypervisor said: VM 0: load of 4 bytes at 0xc000000, where nothing is" in done.stderr
    assert "--timeout" in done.stderr
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "moment", [b"looking for QEMU", b"counting", b"qemu-system-aarch64 ", b"creating the VM", b"later"]
)
def test_ctrl_c_at_any_moment(mark: dict[str, str], moment: bytes) -> None:
    child = subprocess.Popen(
        [*RUN, "--verbose", "--script", "sleep 1000", "--cpus", "1", "--memory", "128M"],
        env=mark,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stderr is not None
    for line in child.stderr:
        if (b"creating the VM" if moment == b"later" else moment) in line:
            break
    time.sleep(2.0 if moment == b"later" else 0.0)
    os.killpg(child.pid, signal.SIGINT)  # what a terminal does
    try:
        _, told = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert b"interrupted" in told
    assert b"Traceback" not in told


def test_a_session_on_a_terminal(mark: dict[str, str]) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        [*RUN, "--cpus", "1", "--memory", "128M"], env=mark, stdin=slave, stdout=slave, stderr=slave
    )
    seen = bytearray()

    def read_until(text: bytes) -> None:
        limit = time.monotonic() + 120
        while text not in seen:
            assert time.monotonic() < limit, seen.decode(errors="replace")
            if select.select([master], [], [], 0.2)[0]:
                seen.extend(os.read(master, 65536))

    try:
        read_until(b"guest# ")
        os.write(master, b"echo $((6 * 7)); sleep 1000\n")
        read_until(b"\n42\r")
        os.write(master, b"\x03")  # Ctrl-C belongs to the guest
        os.write(master, b"echo still $((1 + 1))\n")
        read_until(b"still 2\r")
        os.write(master, b"\x1d")  # Ctrl-]
        read_until(b"frames, all zero")
        assert child.wait(30) == 0
        assert termios.tcgetattr(slave) == before
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cpus", "0"), "--cpus"),
        (("--memory", "900G"), "--memory"),
        (("--kernel", "/nonexistent"), "kernel"),
        (("--kernel", "/bin/true"), "kernel"),
        (("--initrd", "/nonexistent"), "initrd"),
        (("--disk", "/nonexistent"), "disk"),
        (("--qemu", "/bin/true"), "QEMU"),
        (("--qemu", "/nonexistent"), "--qemu"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    mark: dict[str, str], options: tuple[str, ...], words: str
) -> None:
    begin = time.monotonic()
    done = run(mark, *options, "--script", "true")
    assert done.returncode not in (0, 3, 4, 5)
    assert words in done.stderr
    assert "what to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 20
