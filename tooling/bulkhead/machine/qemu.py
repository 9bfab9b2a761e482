"""QEMU's `virt` machine as a context manager that never outlives its caller.

Trust label: TOOL. The machine: GICv3, EL2, SMMUv3, two PL011 (UART0 = the engine's console, UART1 = the
link). RAM is an anonymous memory file shared with QEMU, so that the whole of it can be read here, and nothing
of a run is ever left on a disk. Streams are socket pairs that QEMU inherits: no names, no ports, no races.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bulkhead.errors import MachineError, MachineTimeout
from bulkhead.machine.channel import Channel, Loop
from bulkhead.machine.console import Console
from bulkhead.machine.errors import EnginePanic, MachineDied, tail
from bulkhead.machine.qmp import Qmp

MIB = 1 << 20
RAM_BASE = 0x4000_0000  # of QEMU's `virt` machine
KERNEL_ADDRESS = 0x4020_0000  # where it loads an arm64 Image with text_offset 0
STREAMS = ("uart0", "uart1", "qmp", "gdb")
EXTRA = "BULKHEAD_QEMU_EXTRA"
"""Environment variable: further words for every QEMU that is started, for watching what runs in it."""

Decoder = Callable[[str], str]


@dataclass(frozen=True)
class QemuConfig:
    """What machine to start. `memory` in bytes; `kernel` is the bootable image, `initrd` the image store.

    `devices` are added in order, each an argument of `-device`; `smmu` off leaves the SMMU out; `options` are
    further properties of the machine. `icount` counts instructions: 1 ns of virtual time is one instruction, on
    one host thread; the device tree then carries no random seed, so that runs are equal. `halted` starts with
    all CPUs stopped. `pty` makes UART1 a pseudo-terminal instead of `link`. `decode_panic` turns a raw dump into
    readable text. `ignore` lists expected bad patterns.
    """

    kernel: Path
    initrd: Path | None = None
    memory: int = 1024 * MIB
    cpus: int = 2
    cpu_model: str = "neoverse-n1"
    icount: bool = False
    halted: bool = False
    pty: bool = False
    program: str = "qemu-system-aarch64"
    smmu: bool = True
    options: str = ""
    devices: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    decode_panic: Decoder = field(default=lambda dump: dump)
    ignore: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The command without its streams and RAM."""
        randomness = "off" if self.icount else "on"
        machine = f"virt,gic-version=3,virtualization=on,dtb-randomness={randomness}"
        machine += (",iommu=smmuv3" if self.smmu else "") + (f",{self.options}" if self.options else "")
        words = [self.program, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        words += ["-machine", machine, "-cpu", self.cpu_model, "-smp", str(self.cpus)]
        words += ["-icount", "shift=0,sleep=off"] if self.icount else ["-accel", "tcg,thread=multi"]
        words += ["-kernel", str(self.kernel)]
        words += ["-initrd", str(self.initrd)] if self.initrd else []
        for one in self.devices:
            words += ["-device", one]
        return words + (["-S"] if self.halted else []) + list(self.extra) + shlex.split(os.environ.get(EXTRA, ""))

    def shell_line(self) -> str:
        """A line for a shell: the engine's console on the terminal, the link on a socket."""
        streams = [
            "-m",
            f"{self.memory // MIB}M",
            "-serial",
            "mon:stdio",
            "-serial",
            "unix:link.sock,server=on,wait=off",
        ]
        return shlex.join(self.command() + streams)


class QemuMachine:
    """A running QEMU. Use as a context manager; after the block QEMU is dead, whatever happened inside.

    Every wait is bounded, and raises EnginePanic, MachineDied or MachineTimeout as soon as it is known that
    waiting is in vain. `link` is UART1, `console` UART0, `ram` the file descriptor of RAM (offset 0 =
    RAM_BASE).
    """

    def __init__(
        self, config: QemuConfig, *, time_limit: float = 120.0, say: Callable[[str], None] | None = None
    ) -> None:
        """`time_limit` bounds the whole life of the machine, in seconds; `say` gets the line for a shell."""
        self.config = config
        self.console = Console(config.ignore)
        self.loop = Loop()
        self.ram = -1
        self._deadline = time.monotonic() + time_limit
        self._time_limit = time_limit
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._channels: dict[str, Channel] = {}
        self._stopped = config.halted

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def link(self) -> Channel:
        """UART1."""
        return self._channels["uart1"]

    @property
    def pty(self) -> str:
        """Path of the pseudo-terminal that UART1 is."""
        devices = {one["label"]: one["filename"] for one in self.qmp.execute("query-chardev")}
        return str(devices["uart1"]).removeprefix("pty:")

    @property
    def gdb(self) -> Channel:
        """The gdb remote stub."""
        return self._channels["gdb"]

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        if self._process is None:
            raise MachineError("the machine has not been started")
        return self._process.pid

    def _start(self) -> None:
        if self._say:
            self._say(self.config.shell_line())
        self.ram = os.memfd_create("bulkhead-ram")
        os.ftruncate(self.ram, self.config.memory)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        theirs: list[socket.socket] = []
        try:
            words = self._stream_words(theirs)
            self._process = self._spawn(self.config.command() + words, theirs)
        finally:
            for stream in theirs:
                stream.close()
        self._channels["uart0"].deliver_to(self.console.receive)
        self.qmp = Qmp(self._channels["qmp"], self.wait_until)
        self.qmp.connect()

    def _stream_words(self, theirs: list[socket.socket]) -> list[str]:
        size, fd = self.config.memory, self.ram
        words = [
            "-object",
            f"memory-backend-file,id=ram,size={size},mem-path=/proc/self/fd/{fd},share=on,prealloc=off",
        ]
        words += ["-machine", "memory-backend=ram", "-m", f"{size // MIB}M"]
        if self.config.pty:
            words += ["-chardev", "pty,id=uart1"]
        for name in (name for name in STREAMS if name != "uart1" or not self.config.pty):
            ours, other = socket.socketpair()
            theirs.append(other)
            self._channels[name] = Channel(name, ours, self.loop)
            words += ["-chardev", f"socket,id={name},fd={other.fileno()}"]
        words += ["-serial", "chardev:uart0", "-serial", "chardev:uart1"]
        return [*words, "-mon", "chardev=qmp,mode=control", "-gdb", "chardev:gdb"]

    def _spawn(self, words: list[str], theirs: list[socket.socket]) -> subprocess.Popen[bytes]:
        # setpriv asks the kernel to kill QEMU when this process goes, even by SIGKILL; the session of its own
        # keeps the terminal's Ctrl-C away from QEMU, so that this side decides how a run ends.
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *words]
        try:
            return subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[self.ram, *(stream.fileno() for stream in theirs)],
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MachineError("a program is missing", where="setpriv", hint="install util-linux") from error

    def kill(self) -> None:
        """End QEMU now and release everything. May be called at any time, also half-way through a start."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        if self.ram >= 0:
            os.close(self.ram)
            self.ram = -1
        if self._stderr:
            self._stderr.close()
        self.loop.close()

    def check(self) -> None:
        """Raise if the engine panicked, QEMU died, or the run's time is over."""
        dump = self.console.panic_dump()
        if dump is not None:
            raise EnginePanic(dump, self.config.decode_panic(dump))
        bad = self.console.bad_pattern()
        if bad is not None:
            raise MachineError(f"the engine's console says: {bad}", where="UART0")
        status = self.exit_status()
        if status is not None and not self.console.panic_started():
            raise MachineDied(status, self._output())
        if time.monotonic() > self._deadline:
            raise MachineTimeout(
                f"the run did not end within {self._time_limit:g} s{self._console_tail()}",
                hint="look at the last lines above; `run` takes more time with --timeout",
            )

    def pump(self, seconds: float) -> None:
        """Serve all streams for up to `seconds` (less if something happens), then `check`."""
        self.loop.step(min(seconds, 0.25))
        self.check()

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Serve the streams until `condition()`; MachineTimeout naming `what` after `seconds`."""
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise MachineTimeout(
                    f"waited {seconds:g} s for {what} in vain{self._console_tail()}",
                    hint="it hangs, or this computer is too busy; `run` takes more time with --timeout",
                )
            self.pump(limit - time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether QEMU runs and the engine has not panicked."""
        return self._process is not None and self.exit_status() is None and not self.console.panic_started()

    def exit_status(self) -> int | None:
        """QEMU's exit status, None while it runs."""
        return self._process.poll() if self._process else None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """All CPUs stopped during the block, and running again after it if they were before."""
        was_stopped = self._stopped
        if not was_stopped:
            self.qmp.execute("stop")
            self._stopped = True
        try:
            yield
        finally:
            if not was_stopped and self.exit_status() is None and self._process is not None:
                self.resume()

    def resume(self) -> None:
        """Let the CPUs run (after a halted start)."""
        self.qmp.execute("cont")
        self._stopped = False

    def monitor(self, line: str) -> str:
        """Output of a command of the human monitor."""
        answer: Any = self.qmp.execute("human-monitor-command", **{"command-line": line})
        return str(answer)

    def _output(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def _console_tail(self) -> str:
        text = tail(self.console.text, 10)
        return (
            f"; last lines of the engine's console:\n{text}" if text else "; the engine's console is silent"
        )


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP end this process the way Ctrl-C does, so that every context manager runs.

    Signals that somebody ignores (nohup) or handles are left as they are; so are all outside the main thread.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
