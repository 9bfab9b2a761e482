"""Stock firmware as guests: UEFI and U-Boot reach their prompts, do what they are told, keep variables, and go."""

from __future__ import annotations

import re
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from boot.assembly import assemble
from bulkhead.image import build
from bulkhead.machine.firmware import CODE_MAX, PAYLOAD, VARIABLES, plan_firmware, read_firmware
from bulkhead.machine.guest import MIB, RAM_BASE
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor, MachineSpec, hypervisor
from bulkhead.machine.kernel import Kernel, read_kernel
from bulkhead.machine.run import measured
from bulkhead.machine.shim import ExitReason
from bulkhead.provision import guests, qemu

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "tasks.py"), "run"]
PROMPT_SECONDS = 300.0  # U-Boot looks at half a million bytes of flash first, each an exit
COMMAND_SECONDS = 60.0
SHELL, U_BOOT = b"Shell> ", b"=> "
ONE = bytes.fromhex("00000014") + bytes(9000)  # b .; three pages
CONTROLS = re.compile(rb"\x1b\[[0-9;=?]*[A-Za-z]")


def kernel_and_initrd() -> bytes:
    """The stock guest in one piece: the kernel with all the space that it claims, then the initial RAM disk."""
    stock = guests.ensure()
    kernel = read_kernel(stock.kernel)
    return (
        kernel.content.ljust(-(-kernel.image_size // (2 * MIB)) * 2 * MIB, b"\0") + stock.initrd.read_bytes()
    )


@pytest.fixture(scope="module")
def host() -> Iterator[Hypervisor]:
    """A machine with both firmwares in its store, and something that one of them can start."""
    images = build.build()
    spec = MachineSpec(
        image=images.image,
        engine=images.elf,
        memory=1024 * MIB,
        program=str(qemu.ensure()),
        time_limit=1200.0,
    )
    store = {name: read_firmware(name).content for name in guests.FIRMWARE} | {
        "payload": kernel_and_initrd(),
        "one": ONE,
        "other": ONE[:-1] + b"\1",
    }
    with hypervisor(spec, store) as running:
        yield running


@pytest.fixture(scope="module")
def consoles(host: Hypervisor) -> Iterator[dict[str, GuestConsole]]:
    """Both firmwares, started side by side; what is left of them ends with the tests, and no frame stays away."""
    free = host.shim.stats().free_frames
    running = {}
    for name in guests.FIRMWARE:
        firmware = read_firmware(name)
        plan = plan_firmware(firmware, memory=256 * MIB, cpus=2)
        running[name] = GuestConsole(host, host.shim.start(plan, kernel=name, initrd=None).vm)
        measured(host, running[name].vm, plan.measurement(firmware.content, b"").digest)
    yield running
    for console in running.values():
        host.destroy(console.vm, running=console.end is None)
    assert host.shim.stats().free_frames == free


def await_new(console: GuestConsole, text: bytes, start: int, seconds: float) -> None:
    """Wait until the output beyond the first `start` bytes, without terminal controls, has `text`."""
    limit = time.monotonic() + seconds
    while text not in CONTROLS.sub(b"", console.output[start:]):
        assert time.monotonic() < limit, console.output[start:].decode(errors="replace")
        assert console.end is None
        console.wait_a_little()


def command(console: GuestConsole, line: str, prompt: bytes) -> str:
    """What a line typed at the prompt makes the firmware print, its echo and the next prompt excluded."""
    start = len(console.output)
    console.send(line.encode() + b"\r")
    await_new(console, b"\n", start, COMMAND_SECONDS)
    await_new(console, b"\n" + prompt, start, COMMAND_SECONDS)
    said = CONTROLS.sub(b"", console.output[start:]).decode()
    return said.partition("\n")[2].rpartition("\n")[0].replace("\r", "")


@pytest.mark.timeout(600)
def test_uefi_reaches_its_shell_keeps_a_variable_and_switches_off(
    host: Hypervisor, consoles: dict[str, GuestConsole]
) -> None:
    console = consoles["uefi"]
    await_new(console, SHELL, 0, PROMPT_SECONDS)
    assert b"UEFI Interactive Shell" in console.output
    word, value = secrets.token_hex(8), secrets.token_hex(4)
    command(console, f"set word {word}", SHELL)
    assert word[::-1] not in command(console, "echo %word%", SHELL)
    assert command(console, "echo %word%", SHELL).strip() == word
    assert "EDK II" in command(console, "ver", SHELL)

    # A variable that must outlive the boot is programmed into the flash, which the hypervisor keeps.
    guid = "12345678-1234-1234-1234-123456789abc"
    writes = host.shim.stats().exits["mmio_write"]
    command(console, f"setvar nonce -guid {guid} -bs -nv ={value}", SHELL)
    assert host.shim.stats().exits["mmio_write"] > writes + 16
    dumped = command(console, f"setvar nonce -guid {guid}", SHELL)
    assert " ".join(value[at : at + 2] for at in range(0, 8, 2)).upper() in dumped.upper()

    shown = command(console, "date", SHELL)
    found = re.search(r"(\d\d)/(\d\d)/(\d{4})", shown)
    assert found, shown
    assert abs(
        datetime(int(found[3]), int(found[1]), int(found[2]), tzinfo=UTC) - datetime.now(UTC)
    ) < timedelta(2)

    console.send(b"reset -s\r")
    assert console.wait_end(COMMAND_SECONDS).reason == ExitReason.OFF


@pytest.mark.timeout(600)
def test_u_boot_reaches_its_prompt_saves_its_environment_and_resets(
    host: Hypervisor, consoles: dict[str, GuestConsole]
) -> None:
    console = consoles["u-boot"]
    await_new(console, U_BOOT, 0, PROMPT_SECONDS)
    assert "U-Boot 20" in command(console, "version", U_BOOT)
    board = command(console, "bdinfo", U_BOOT)
    assert re.search(rf"-> start\s+= 0x0*{RAM_BASE:x}\n-> size\s+= 0x0*{256 * MIB:x}\n", board), board
    assert re.search(rf"flashstart\s+= 0x0*{VARIABLES[0]:x}\n", board), board

    word = secrets.randbits(64)
    command(console, f"mw.q {RAM_BASE + 64 * MIB:x} {word:x} 2", U_BOOT)
    assert f"{RAM_BASE + 64 * MIB:x}: {word:016x} {word:016x}" in command(
        console, f"md.q {RAM_BASE + 64 * MIB:x} 2", U_BOOT
    )
    text = f"nonce={secrets.token_hex(8)}"
    command(console, f"setenv {text.replace('=', ' ')}", U_BOOT)
    assert command(console, "printenv nonce", U_BOOT) == text
    # One block of flash, written in words as its driver does, and seen as memory.
    place = VARIABLES[0] + 0x4_0000
    said = command(
        console, f"protect off all; erase {place:x} +20000; cp.q {RAM_BASE + 64 * MIB:x} {place:x} 2", U_BOOT
    )
    assert "done" in said and "not" not in said.lower(), said
    assert f"{word:016x} {word:016x}" in command(console, f"md.q {place:x} 2", U_BOOT)

    console.send(b"reset\r")
    assert console.wait_end(COMMAND_SECONDS).reason == ExitReason.RESET


@pytest.mark.timeout(600)
def test_u_boot_starts_the_stock_kernel_from_ram(host: Hypervisor) -> None:
    stock = guests.ensure()
    size, initrd = len(kernel_and_initrd()) - stock.initrd.stat().st_size, stock.initrd.stat().st_size
    plan = plan_firmware(read_firmware("u-boot"), memory=256 * MIB, cpus=2, payload=len(kernel_and_initrd()))
    console = GuestConsole(host, host.shim.start(plan, kernel="u-boot", initrd="payload").vm)
    try:
        await_new(console, U_BOOT, 0, PROMPT_SECONDS)
        word = secrets.token_hex(8)
        command(console, f"setenv bootargs console=ttyAMA0 quiet word={word}", U_BOOT)
        console.send(f"booti {PAYLOAD:x} {PAYLOAD + size:x}:{initrd:x} {RAM_BASE:x}\r".encode())
        done = console.run("cat /proc/cmdline; nproc; cat /sys/class/rtc/rtc0/name", 120)
        assert done.output.decode().splitlines() == [
            f"console=ttyAMA0 quiet word={word}", "2", "rtc-pl031 9010000.pl031"
        ]  # fmt: skip
    finally:
        host.destroy(console.vm, running=console.end is None)


def test_every_byte_of_the_code_is_measured(host: Hypervisor) -> None:
    measured = []
    for name in ("one", "one", "other"):
        plan = plan_firmware(Kernel(Path(name), ONE, 0, len(ONE), flat=True), memory=128 * MIB, cpus=1)
        started = host.shim.start(plan, kernel=name, initrd=None)
        measured.append(started.measurement)
        host.destroy(started.vm, running=True)
    assert measured[0] == measured[1] != measured[2]


def run(*options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *options], input=stdin, capture_output=True, text=True, timeout=400, check=False
    )


def test_lines_from_a_pipe_are_given_at_each_prompt() -> None:
    word = secrets.token_hex(8)
    script = f"set word {word}\necho it is %word% indeed\nreset -s\nnever reached\n"
    done = run("--firmware", "uefi", "--cpus", "1", "--memory", "256M", stdin=script)
    assert f"it is {word} indeed" in CONTROLS.sub(b"", done.stdout.encode()).decode()
    assert done.returncode == 0
    assert "VM: off" in done.stderr
    assert re.search(r"left of the VM in RAM .*frames, all zero", done.stderr)


def test_any_firmware_starts_at_address_0_with_the_device_tree_at_the_start_of_ram(tmp_path: Path) -> None:
    # It switches itself off if it finds the device tree's magic there, and hangs if not.
    program = (
        0x10000000,  # adr x0, .
        0xB50000E0,  # cbnz x0, hang
        0xD2A80000,  # movz x0, #0x4000, lsl #16
        0xB9400001,  # ldr w1, [x0]
        0x5281BA02,  # movz w2, #0x0dd0
        0x72BDBFC2,  # movk w2, #0xedfe, lsl #16
        0x6B02003F,  # cmp w1, w2
        0x54000040,  # b.eq off
        0x14000000,  # hang: b .
        0x52800100,  # off: movz w0, #8
        0x72B08000,  # movk w0, #0x8400, lsl #16 (PSCI SYSTEM_OFF, DEN 0022)
        0xD4000002,  # hvc #0
    )
    starts_and_switches_itself_off(tmp_path, struct.pack(f"<{len(program)}I", *program))


def test_flash_reads_as_erased_and_loads_without_a_syndrome_are_aborted(tmp_path: Path) -> None:
    program = (
        0xD518C01F,  # msr vbar_el1, xzr
        0xD5033FDF,  # isb
        0xD2A08001,  # movz x1, #0x400, lsl #16: the flash
        0xF9400022,  # ldr x2, [x1]
        0xB100045F,  # cmn x2, #1
        0x54000041,  # b.ne hang
        0xA9400C22,  # ldp x2, x3, [x1]
        0x14000000,  # hang: b .
    )
    handler = (
        0xD5385204,  # mrs x4, esr_el1
        0xD35AFC84,  # lsr x4, x4, #26
        0xF100949F,  # cmp x4, #0x25: data abort
        0x54000001,  # b.ne .
        0x52800100,  # movz w0, #8
        0x72B08000,  # movk w0, #0x8400, lsl #16 (PSCI SYSTEM_OFF)
        0xD4000002,  # hvc #0
    )
    synchronous = 0x200  # from the current exception level with its own stack pointer
    image = struct.pack(f"<{len(program)}I", *program).ljust(synchronous, b"\0")
    starts_and_switches_itself_off(tmp_path, image + struct.pack(f"<{len(handler)}I", *handler))


def test_firmware_that_crashes_is_told_from_a_kernel(tmp_path: Path) -> None:
    words = b"\nSynchronous Exception at 0x0000000000000028\n"
    program = """
        adr x0, 3f
        mov x1, #0x09000000
    1:  ldrb w2, [x0], #1
        cbz w2, 2f
        str w2, [x1]
        b 1b
    2:  b 2b
    3:
    """
    path = tmp_path / "firmware.bin"
    path.write_bytes(assemble(program) + words + b"\0")
    done = run("--firmware", str(path), "--cpus", "1", "--memory", "128M", "--timeout", "60")
    assert done.returncode != 0
    assert "its firmware crashed" in done.stderr
    assert "--firmware uefi" in done.stderr and "--append" not in done.stderr


def starts_and_switches_itself_off(directory: Path, image: bytes) -> None:
    path = directory / "firmware.bin"
    path.write_bytes(image)
    done = run("--firmware", str(path), "--cpus", "1", "--memory", "128M", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert "VM: off" in done.stderr


@pytest.fixture
def bad(tmp_path: Path) -> dict[str, str]:
    """Files that are no firmware, by what is wrong with them."""
    large = tmp_path / f"an error names it in one piece, however {'l' + 'o' * 80 + 'ng'} its name is.fd"
    with large.open("wb") as stream:
        stream.write(bytes.fromhex("01000014"))
        stream.truncate(CODE_MAX + 1)
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\nexit\n")
    short = tmp_path / "short"
    short.write_bytes(b"\x01")
    empty = tmp_path / "empty"
    empty.touch()
    return {
        "too large": str(large),
        "does not start with an instruction": str(text),
        "no firmware": str(short),
        "empty": str(empty),
        "ELF": sys.executable,
        "Linux kernel": str(guests.ensure().kernel),
        "does not exist": str(tmp_path / "nothing"),
    }


@pytest.mark.parametrize(
    "words",
    [
        "too large",
        "does not start with an instruction",
        "no firmware",
        "empty",
        "ELF",
        "Linux kernel",
        "does not exist",
    ],
)
def test_what_is_no_firmware_is_refused_by_name(bad: dict[str, str], words: str) -> None:
    done = run("--firmware", bad[words])
    assert done.returncode == 2
    assert words in done.stderr
    assert bad[words] in done.stderr
    assert "what to do" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--kernel", "/boot/Image"), "--kernel"),
        (("--initrd", "/boot/initrd"), "--initrd"),
        (("--load-address", "0x40080000", "--kernel", "/boot/Image"), "--kernel"),
        (("--append", "quiet"), "--append"),
        (("--script", "true"), "--script"),
        (("--payload", "/nonexistent"), "payload"),
        (("--payload", "/bin/true", "--memory", "128M"), "--memory"),
        (("--memory", "64M"), "--memory"),
        (("--cpus", "9"), "--cpus"),
    ],
)
def test_options_that_exclude_each_other_are_refused_by_name(options: tuple[str, ...], words: str) -> None:
    done = run("--firmware", "u-boot", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "what to do" in done.stderr
