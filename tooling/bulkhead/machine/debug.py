"""A machine that waits at its first instruction, with gdb and the symbols of all parts attached.

Trust label: TOOL. Symbols: the engine twice (where it is loaded, for the code before the MMU, and where it is
linked), the host program where its own relocation puts it, a guest's vmlinux if one is given.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import tempfile
from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.image import build
from bulkhead.image.elf import read_program
from bulkhead.machine.options import RunOptions
from bulkhead.machine.qemu import KERNEL_ADDRESS, RAM_BASE, QemuConfig
from bulkhead.machine.run import read_guest
from bulkhead.machine.store import write_store
from bulkhead.provision import qemu
from bulkhead.provision.paths import REPOSITORY

BLOCK = 0x20_0000
REMAPPED = "/bulkhead"  # what the repository is called in the debug information (flags.toml)
PAGE = 0x1000  # of boot information behind the host program


def gdb_commands(images: build.Images, target: str, vmlinux: Path | None = None) -> list[str]:
    """The gdb commands that connect to `target` and load every symbol file at its place."""
    engine = read_program(images.elf)
    commands = [
        "set confirm off",
        "set architecture aarch64",
        f"set substitute-path {REMAPPED} {REPOSITORY}",
        *(f"directory {REPOSITORY / workspace}" for workspace in ("engine", "hypervisor-shim")),
        f"file {images.elf}",
        # Until the MMU is on, the engine runs at its load address.
        f"add-symbol-file {images.elf} -o {KERNEL_ADDRESS - engine.base:#x}",
        f"target remote {target}",
    ]
    if vmlinux is not None:
        commands.append(f"add-symbol-file {vmlinux}")
    address = host_address(images)
    commands.append(f"add-symbol-file {images.host_elf} -o {address - read_program(images.host_elf).base:#x}")
    return commands


def host_address(images: build.Images) -> int:
    """Where the engine copies the host program: the first 2 MiB blocks that the loaded image leaves free."""
    program = read_program(images.host_elf)
    if program.end - program.base + PAGE <= KERNEL_ADDRESS - RAM_BASE:
        return RAM_BASE
    end = KERNEL_ADDRESS + images.image.stat().st_size
    return RAM_BASE + -(-(end - RAM_BASE) // BLOCK) * BLOCK


def main(vmlinux: str = "", *, batch: tuple[str, ...] = ()) -> int:
    """Build, start the machine halted, and hand the terminal to gdb (or run the commands of `batch` and end).

    Returns gdb's exit status; QEMU ends with it. InvalidInput if `vmlinux` does not exist.
    """
    symbols = Path(vmlinux).expanduser() if vmlinux else None
    if symbols is not None and not symbols.is_file():
        raise InvalidInput(
            "there is no such symbol file", where=symbols, hint="give the vmlinux of the guest's kernel"
        )
    images = build.build()
    guest = read_guest(RunOptions())
    program, gdb = qemu.ensure(), qemu.ensure_gdb()
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as private:
        store = Path(private) / "store.img"
        with store.open("wb") as stream:
            write_store(stream, guest.store())
        config = QemuConfig(kernel=images.image, initrd=store, halted=True, icount=True, program=str(program))
        # gdb starts QEMU itself and talks to it over a pipe, so that neither can outlive the other.
        streams = ["-m", "1024M", "-serial", f"file:{private}/uart0.log", "-serial", "null", "-gdb", "stdio"]
        target = "| exec " + shlex.join(["setpriv", "--pdeathsig", "KILL", "--", *config.command(), *streams])
        words = [str(gdb), "-q", *(["-batch"] if batch else [])]
        for line in [*gdb_commands(images, target, symbols), *batch]:
            words += ["-ex", line]
        return _hand_over(words)


def _hand_over(words: list[str]) -> int:
    """Run gdb in the foreground; Ctrl-C is gdb's while it runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(["setpriv", "--pdeathsig", "KILL", "--", *words], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
