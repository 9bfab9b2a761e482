"""A guest that a test drives word by word, and a driver of its virtio block device (virtio 1.2) written in the test."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from bulkhead.image.build import BUILD, cargo, checkout, flatten
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor
from bulkhead.provision.paths import REPOSITORY, locked
from bulkhead.provision.toolchain import ensure

RAM = 0x4000_0000
ENTRY = RAM + 0x20_0000
RAM_SIZE = 16 << 20
PAGE = 4096
MEMINFO, SHARE, UNSHARE, RELINQUISH = 0xC600_0002, 0xC600_0003, 0xC600_0004, 0xC600_0045
DEVICE = 0x0A00_0000
PROGRAM = "puppet"  # its name in the image store
SECONDS = 20.0
MASK = (1 << 64) - 1
NEXT, WRITE, INDIRECT = 1, 2, 4
FEATURES = 1 << 32 | 1 << 33  # VERSION_1, ACCESS_PLATFORM
NEEDS_RESET = 64


def program() -> bytes:
    """The puppet as a flat binary."""
    workspace = REPOSITORY / "hypervisor-shim"
    with locked(f"build-{checkout()}"):
        elf = cargo(
            ensure("pinned"), workspace, BUILD / "target" / workspace.name, "bulkhead-puppet", "puppet"
        )
        return bytes(flatten(elf, with_bss=False))


@dataclass
class Puppet:
    """A running puppet. Registers and words are unsigned 64-bit numbers."""

    host: Hypervisor
    vm: int
    console: GuestConsole = field(init=False)
    _read: int = 0

    def __post_init__(self) -> None:
        self.console = GuestConsole(self.host, self.vm)

    def ask(self, what: int, *arguments: int) -> tuple[int, int, int, int]:
        """One request."""
        words = [argument & MASK for argument in (*arguments, 0, 0, 0, 0, 0)[:5]]
        self.console.send(struct.pack("<B5Q", what, *words))
        end = self._read + 32
        self.host.machine.wait_until(
            lambda: len(self.console.output) >= end or self.console.end is not None, SECONDS, "the puppet"
        )
        assert self.console.end is None, self.console.end
        answer = struct.unpack_from("<4Q", self.console.output, self._read)
        self._read = end
        return answer

    def load(self, address: int, size: int = 8) -> int:
        """The value at an address."""
        return self.ask(1, address, size)[0]

    def store(self, address: int, value: int, size: int = 8, count: int = 1) -> None:
        """The value `count` times from an address on."""
        self.ask(2, address, size, value, count)

    def write(self, address: int, data: bytes) -> None:
        """Bytes, in words of 8 (the last one is filled with zeros)."""
        data += bytes(-len(data) % 8)
        for number, word in enumerate(struct.unpack(f"<{len(data) // 8}Q", data)):
            self.store(address + 8 * number, word)

    def read(self, address: int, length: int) -> bytes:
        """Bytes; the length is a multiple of 8."""
        return struct.pack(f"<{length // 8}Q", *(self.load(address + at) for at in range(0, length, 8)))

    def call(self, *registers: int) -> tuple[int, int, int, int]:
        """HVC with x0 to x3."""
        return self.ask(3, *registers)

    def share(self, *pages: int) -> None:
        """Share pages, which must work."""
        for page in pages:
            assert self.call(SHARE, page)[0] == 0, hex(page)


def start(host: Hypervisor, *, disk_size: int = 0, cpus: int = 1) -> Puppet:
    """A VM with a puppet in it, and a disk of zeros if it has a size."""
    arguments: dict[str, object] = {
        "kernel": PROGRAM, "initrd": None, "dtb": b"\xd0\x0d\xfe\xed", "kernel_address": ENTRY, "initrd_address": 0,
        "dtb_address": RAM, "entry": ENTRY, "ram": [[RAM, RAM_SIZE]], "cpus": cpus, "disk_size": disk_size,
    }  # fmt: skip
    return Puppet(host, int(host.shim.link.call("start", arguments)["vm"]))


TABLE, AVAILABLE, USED = RAM + 0x40_0000, RAM + 0x40_1000, RAM + 0x40_2000
HEAD, DATA, STATUS = RAM + 0x40_3000, RAM + 0x40_4000, RAM + 0x40_3800
SIZE = 8
POISON = 0xEE


@dataclass
class Driver:
    """A driver of the puppet's disk. Its pages lie at fixed places; what it shares is the test's affair."""

    puppet: Puppet
    index: int = 0
    slots: int = SIZE

    def register(self, offset: int) -> int:
        """A register of the device."""
        return self.puppet.load(DEVICE + offset, 4)

    def set(self, offset: int, value: int) -> None:
        """Writes a register of the device."""
        self.puppet.store(DEVICE + offset, value, 4)

    def initialise(
        self, table: int = TABLE, available: int = AVAILABLE, used: int = USED, features: int = FEATURES
    ) -> int:
        """Reset, negotiation and queue as 3.1.1 and 4.2.3 say; the device's status then."""
        self.index = 0
        for value in (0, 1, 3):
            self.set(0x70, value)
        for half in (0, 1):
            self.set(0x24, half)
            self.set(0x20, features >> 32 * half & 0xFFFF_FFFF)
        self.set(0x70, 11)
        self.set(0x30, 0)
        self.set(0x38, self.slots)
        for offset, area in ((0x80, table), (0x90, available), (0xA0, used)):
            self.set(offset, area & 0xFFFF_FFFF)
            self.set(offset + 4, area >> 32)
        self.set(0x44, 1)
        self.set(0x70, 15)
        return self.register(0x70)

    def descriptors(self, entries: Sequence[tuple[int, int, int, int]]) -> None:
        """Address, length, flags and next of the table's first entries."""
        self.puppet.write(TABLE, b"".join(struct.pack("<QIHH", *entry) for entry in entries))

    def offer(self, head: int = 0, step: int = 1) -> None:
        """Makes a chain available and notifies."""
        self.puppet.store(AVAILABLE + 4 + 2 * (self.index % self.slots), head, 2)
        self.index = (self.index + step) & 0xFFFF
        self.puppet.store(AVAILABLE + 2, self.index, 2)
        self.set(0x50, 0)

    def request(self, kind: int, sector: int, data: int = DATA, length: int = 512) -> int:
        """Reads (0) or writes (1) the disk; the status byte, POISON if the device wrote none."""
        self.puppet.write(HEAD, struct.pack("<IIQ", kind, 0, sector))
        self.puppet.store(STATUS, POISON, 1)
        flags = NEXT | (WRITE if kind == 0 else 0)
        self.descriptors([(HEAD, 16, NEXT, 1), (data, length, flags, 2), (STATUS, 1, WRITE, 0)])
        self.offer()
        return self.puppet.load(STATUS, 1)

    def needs_reset(self) -> bool:
        """Whether the device has broken."""
        return bool(self.register(0x70) & NEEDS_RESET)

    def used(self) -> int:
        """Index of the used ring."""
        return self.puppet.load(USED + 2, 2)
