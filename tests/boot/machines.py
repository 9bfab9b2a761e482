"""Machines for the tests of boot, and what they tell: boot information, log, breakpoints. Trust label: TOOL."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boot.rig import Rig
from bulkhead.image import build
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.boot_info import BOOT_INFO, BootInfo
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.machine.link import Link
from bulkhead.machine.qemu import MIB, QemuConfig, QemuMachine

TEXT_OFFSET = slice(8, 16)  # in the arm64 Image header
TREE_MAGIC = bytes.fromhex("d00dfeed")
Spoil = Callable[[bytearray], None]
"""Changes a device tree in place."""
Prepare = Callable[[QemuMachine], None]
"""Does something to a machine before its first instruction."""


@dataclass(kw_only=True)
class Booted(Rig):
    """A machine whose host program has answered, and the engine's symbols."""

    symbols: Symbols

    @property
    def boot_info(self) -> BootInfo:
        """As the host reads it."""
        return BootInfo.decode(self.read(self.link.call("ping")["boot_info"], BOOT_INFO.size))

    def log(self) -> str:
        """The whole log, by `log_read`."""
        text, offset = b"", 0
        while True:
            following, count, *words = self.ok("log_read", offset)[:10]
            text += struct.pack("<8Q", *words)[:count]
            if count == 0:
                return text.decode()
            offset = following


def image(text_offset: int = 0, directory: Path | None = None) -> Path:
    """The bootable file with the payload; with `text_offset`, a copy in `directory` that asks to be loaded there."""
    original = build.build("pinned", "payload").image
    if directory is None:
        return original
    data = bytearray(original.read_bytes())
    data[TEXT_OFFSET] = text_offset.to_bytes(8, "little")
    moved = directory / "moved.img"
    moved.write_bytes(data)
    return moved


def change_tree(machine: QemuMachine, change: Spoil) -> None:
    """Applies `change` to the device tree that QEMU has put into the RAM of a halted machine."""
    size = MIB  # QEMU's trees have this length, whatever is in them
    place = min(machine.config.memory // 2, 128 * MIB)  # hw/arm/boot.c
    tree = bytearray(os.pread(machine.ram, size, place))
    assert tree[:4] == TREE_MAGIC
    change(tree)
    os.pwrite(machine.ram, tree, place)


@contextmanager
def boot(config: QemuConfig, change: Spoil | None = None, before: Prepare | None = None) -> Iterator[Booted]:
    """Boots until the payload says that it is ready; the machine ends with the block.

    `change` gets the device tree, `before` the machine, before the first instruction.
    """
    symbols = Symbols(build.build("pinned", "payload").elf)
    config = dataclasses.replace(config, halted=change is not None or before is not None)
    with QemuMachine(config, say=print) as machine:
        if change is not None:
            change_tree(machine, change)
        if before is not None:
            before(machine)
        if config.halted:
            machine.resume()
        link = Link(machine.link, machine.wait_until)
        link.event("ready")
        yield Booted(machine, link, symbols=symbols)


def patient(machine: QemuMachine) -> Callable[[Callable[[], bool], float, str], None]:
    """A bounded wait that goes on when the engine has panicked, which the machine's own does not."""

    def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, f"waited {seconds} s for {what} in vain"
            machine.loop.step(0.1)

    return wait


class Outside:
    """Single accesses to physical addresses from outside the machine: a bus for the drivers in `boot.devices`."""

    def __init__(self, machine: QemuMachine) -> None:
        self._machine = machine

    def read(self, address: int, length: int) -> bytes:
        """By QEMU's monitor."""
        shown = self._machine.monitor(f"xp /{length}xb {address:#x}")
        return bytes(int(byte, 16) for byte in shown.split(":", 1)[1].split())

    def write(self, address: int, data: bytes) -> None:
        """By the debugger, of a stopped machine."""
        Breakpoints(self._machine.gdb, self._machine.wait_until).store(address, data)


class Breakpoints(GdbStub):
    """The gdb stub with what the tests of the panic dump need: hardware breakpoints, and changing registers."""

    def interrupt(self) -> None:
        """Stop the machine, as gdb does on Ctrl-C."""
        self._channel.send(b"\x03")
        self._wait(lambda: b"$T" in self._buffer, 20, "the machine to stop")

    def go_on(self) -> None:
        """Let a stopped machine run on (packet c, which is answered when it stops)."""
        self._buffer.clear()
        self._channel.send(b"$c#63")

    def stop_at(self, address: int) -> None:
        """Stop every CPU that comes to `address` (gdb manual, appendix E, packet Z1)."""
        assert self._ask(f"Z1,{address:x},4") == "OK"

    def forget(self, address: int) -> None:
        """Removes a breakpoint."""
        assert self._ask(f"z1,{address:x},4") == "OK"

    def poke(self, address: int, value: int) -> None:
        """A 32-bit store to a physical address, device registers included."""
        self.store(address, value.to_bytes(4, "little"))

    def store(self, address: int, data: bytes) -> None:
        """One store of up to eight bytes to a physical address (QEMU's PhyMemMode, packet M)."""
        assert self._ask("Qqemu.PhyMemMode:1") == "OK"
        assert self._ask(f"M{address:x},{len(data):x}:{data.hex()}") == "OK"
        assert self._ask("Qqemu.PhyMemMode:0") == "OK"

    def set_register(self, name: str, value: int, cpu: int) -> None:
        """Changes a 64-bit register of one CPU (packet P)."""
        assert self._ask(f"Hg{cpu + 1:x}") == "OK"
        digits = value.to_bytes(8, "little").hex()
        assert self._ask(f"P{self._registers[name]:x}={digits}") == "OK"
