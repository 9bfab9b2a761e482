"""The cable to a board: serial ports, and a machine in QEMU whose UART1 is a pseudo-terminal. Trust label: TOOL.

Both are a `Device`: a stream of bytes, and a way to turn the machine off and on, if there is one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import serial
from serial.tools import list_ports

from bulkhead.errors import InvalidInput, MachineError
from bulkhead.image.build import Images
from bulkhead.machine.channel import Channel, Loop
from bulkhead.machine.errors import tail
from bulkhead.machine.qemu import QemuConfig, QemuMachine

BAUD_RATE = 115_200
"""Of the payload's UART (`hypervisor-shim/el1/src/uart.rs`)."""
POWER_SECONDS = 120.0
MEMORY = 256 << 20
SESSION_LIMIT = 7200.0
"""Seconds that one boot on a pseudo-terminal may live."""


class Device(Protocol):
    """A machine at the other end of a line. `loop` serves the channel that `open` makes."""

    name: str

    @property
    def loop(self) -> Loop:
        """What serves the line."""
        ...

    def open(self) -> Channel:
        """The line, with nothing of the past in it. MachineError if there is none."""
        ...

    def power_cycle(self) -> None:
        """Turns the machine off and on; the line is to be opened anew. MachineError if that cannot be done."""
        ...

    def explain(self) -> str:
        """What else is known about a machine that has stopped answering; empty if nothing."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...


class _SerialStream:
    """A serial port as a channel uses it."""

    def __init__(self, port: serial.SerialBase) -> None:
        self._port = port

    def fileno(self) -> int:
        return int(self._port.fileno()) if self._port.is_open else -1

    def setblocking(self, flag: bool, /) -> None:
        os.set_blocking(self.fileno(), flag)

    def send(self, data: bytes | bytearray, /) -> int:
        return os.write(self.fileno(), data)

    def recv(self, size: int, /) -> bytes:
        return os.read(self.fileno(), size)

    def close(self) -> None:
        self._port.close()


def open_port(where: str, baud_rate: int, loop: Loop) -> Channel:
    """A serial port by its path, or by a URL of pyserial with a descriptor. MachineError naming what is there."""
    try:
        port = serial.serial_for_url(where, baudrate=baud_rate, timeout=0, exclusive=True)
    except (serial.SerialException, OSError, ValueError) as error:
        ports = ", ".join(sorted(one.device for one in list_ports.comports())) or "none"
        raise MachineError(
            f"the serial device cannot be opened: {error}", where=where,
            hint=f"plug it in, let no other program use it, and be in its group (dialout); serial ports here: {ports}",
        ) from error  # fmt: skip
    try:
        port.reset_input_buffer()
        return Channel("serial", _SerialStream(port), loop)
    except (AttributeError, OSError, ValueError) as error:  # UnsupportedOperation is both of the latter
        port.close()
        raise MachineError(
            "this kind of device cannot be waited for", where=where, hint="give a path"
        ) from error


def parse(text: str) -> tuple[str, int]:
    """PATH[:baud], or a URL. InvalidInput if the rate is none."""
    path, colon, rate = text.rpartition(":")
    if "://" in text or not colon:
        return text, BAUD_RATE
    if not rate.isdigit() or int(rate) == 0:
        raise InvalidInput(f"'{rate}' is no baud rate", where=text, hint=f"PATH:{BAUD_RATE}")
    return path, int(rate)


class SerialDevice:
    """A board on a serial port."""

    def __init__(self, text: str, power: str = "") -> None:
        """`text` is PATH[:baud]; `power` a shell command that turns the board off and on. InvalidInput."""
        self.name = text
        self.loop = Loop()
        self._path, self._rate = parse(text)
        self._power = power

    def open(self) -> Channel:
        """See Device."""
        return open_port(self._path, self._rate, self.loop)

    def power_cycle(self) -> None:
        """See Device."""
        if not self._power:
            raise MachineError(
                "the board has stopped answering and cannot be turned off from here", where=self.name,
                hint="turn it off and on; with --bulkhead-power COMMAND that happens by itself",
            )  # fmt: skip
        try:
            subprocess.run(self._power, shell=True, check=True, timeout=POWER_SECONDS, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            raise MachineError(f"the command that turns the board off and on failed: {error}") from error

    def explain(self) -> str:
        """See Device."""
        return ""

    def close(self) -> None:
        """See Device."""
        self.loop.close()


class PseudoTerminal:
    """A machine in QEMU that is only known by the pseudo-terminal that its UART1 is; a reset boots it again."""

    name = "qemu"

    def __init__(self, images: Images, program: str = "qemu-system-aarch64", cpus: int = 2) -> None:
        """Starts `images` (made with the payload); the file is copied, so that later builds do not matter."""
        self._files = tempfile.TemporaryDirectory(prefix="bulkhead-")
        kernel = Path(shutil.copy(images.image, self._files.name))
        reboots = ("-action", "reboot=reset")  # after QemuConfig's own -no-reboot
        self._config = QemuConfig(
            kernel=kernel, memory=MEMORY, cpus=cpus, program=program, pty=True, extra=reboots
        )
        self._running = ExitStack()
        self._start()

    def _start(self) -> None:
        self.machine = self._running.enter_context(QemuMachine(self._config, time_limit=SESSION_LIMIT))
        self.path = self.machine.pty

    @property
    def loop(self) -> Loop:
        """See Device: the machine's own, so that its console is read, too; QEMU stops where nobody does that."""
        return self.machine.loop

    def open(self) -> Channel:
        """See Device."""
        return open_port(self.path, BAUD_RATE, self.loop)

    def power_cycle(self) -> None:
        """See Device."""
        self._running.close()
        self._start()

    def explain(self) -> str:
        """See Device: the engine's last words on its console."""
        return f"the engine's console ends with:\n{tail(self.machine.console.text, 30)}"

    def close(self) -> None:
        """See Device."""
        self._running.close()
        self._files.cleanup()
