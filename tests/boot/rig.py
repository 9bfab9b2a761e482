"""A booted machine with the test payload at EL1, and VMs whose programs are given as machine code. Trust label: TOOL.

Unlike the conformance backend it runs code: the payload executes host programs that a test puts into host RAM.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bulkhead import abi
from bulkhead.image import build
from bulkhead.machine.boot_info import BOOT_INFO, BootInfo
from bulkhead.machine.link import Link
from bulkhead.machine.qemu import RAM_BASE, QemuConfig, QemuMachine

PAGE = 4096
BLOCK = 2 << 20
VM_RAM = 0x4000_0000
REGISTERS = 18
LEVEL_SPANS = {2: 1 << 30, 3: BLOCK}
BOOT_INFO_SPLIT_BLOCK = 43 * 8
"""Offset of `split_block` in BootInfo: magic, version, CPUs, 8 affinities, 16 ranges."""
IDS = {call.name: call.id for call in abi.load().calls}
EXITS = {line.name: line.value for line in abi.load().exits}


@dataclass
class Rig:
    """The machine: calls on any CPU, host memory, raw RAM, and host frames to give away."""

    machine: QemuMachine
    link: Link
    next_frame: int = 0
    vms: list[Vm] = field(default_factory=list)
    """All that were started."""

    def call(self, name: str, *arguments: int, cpu: int = 0) -> list[int]:
        """x0 to x17 after the call `name`."""
        registers = [IDS[name], *arguments]
        registers += [0] * (REGISTERS - len(registers))
        return list(self.link.call("call", {"cpu": cpu, "regs": registers})["regs"])

    def ok(self, name: str, *arguments: int, cpu: int = 0) -> list[int]:
        """x1 and up of a call that must succeed."""
        answer = self.call(name, *arguments, cpu=cpu)
        assert answer[0] == 0, f"{name}{tuple(map(hex, arguments))} answered {answer[0]:#x}, {answer[1]:#x}"
        return answer[1:]

    def write(self, address: int, data: bytes) -> None:
        """Stores by the host."""
        for offset in range(0, len(data), PAGE):
            self.link.call("write", {"address": address + offset, "data": data[offset : offset + PAGE]})

    def read(self, address: int, length: int) -> bytes:
        """Loads by the host."""
        return bytes(self.link.call("read", {"address": address, "length": length})["data"])

    def execute(self, address: int) -> None:
        """Calls the host program at `address` at EL1."""
        self.link.call("execute", {"address": address})

    def raw(self, address: int, length: int) -> bytes:
        """RAM as the machine has it, whoever owns it."""
        return os.pread(self.machine.ram, length, address - RAM_BASE)

    def take(self, count: int = 1) -> int:
        """The first of `count` consecutive host frames of the split block."""
        frame = self.next_frame
        self.next_frame += count * PAGE
        return frame


@contextmanager
def booted(
    *,
    icount: bool = False,
    cpu_model: str = "neoverse-n1",
    extra: tuple[str, ...] = (),
    options: str = "",
    image: Path | None = None,
) -> Iterator[Rig]:
    """Boots the payload image, or another one with the payload; the machine ends with the block."""
    image = image or build.build("pinned", "payload").image
    config = QemuConfig(kernel=image, icount=icount, cpu_model=cpu_model, extra=extra, options=options)
    with QemuMachine(config, say=print) as machine:
        link = Link(machine.link, machine.wait_until)
        link.event("ready")
        rig = Rig(machine, link)
        info = link.call("ping")["boot_info"]
        (block,) = struct.unpack("<Q", rig.read(info + BOOT_INFO_SPLIT_BLOCK, 8))
        rig.next_frame = block + PAGE  # the first frame is the table of the block
        yield rig


@dataclass
class Vm:
    """An active VM. `contexts` are the physical addresses of its vCPUs, `pages` of its pages by IPA."""

    rig: Rig
    slot: int
    contexts: list[int] = field(default_factory=list)
    pages: dict[int, int] = field(default_factory=dict)

    def run(self, vcpu: int = 0, reply: int = 0, control: int = 0, cpu: int = 0) -> list[int]:
        """x1 and up of vcpu_run: class, three words of data, ..."""
        return self.rig.ok("vcpu_run", self.contexts[vcpu], reply, 0, 0, 0, control, cpu=cpu)

    def run_on(self, vcpu: int = 0, reply: int = 0, cpu: int = 0) -> list[int]:
        """As `run`, through interrupts of the host."""
        while (answer := self.run(vcpu, reply, cpu=cpu))[0] == EXITS["IRQ"]:
            pass
        return answer

    def memory(self, ipa: int, length: int) -> bytes:
        """The VM's memory, read behind its back."""
        return self.rig.raw(self.pages[ipa & -PAGE] + ipa % PAGE, length)


def start_vm(rig: Rig, slot: int, pages: Mapping[int, bytes], vcpus: int = 1, context: int = 0) -> Vm:
    """A VM with 16 MiB of RAM at VM_RAM and these measured pages, whose vCPU 0 starts at VM_RAM."""
    vm = Vm(rig, slot)
    rig.vms.append(vm)
    rig.ok("vm_create", slot, rig.take(), vcpus, 0, VM_RAM, 16 << 20)
    for level in LEVEL_SPANS:
        rig.ok("table_donate", slot, VM_RAM, level, rig.take())
    for ipa, content in pages.items():
        frame = rig.take()
        rig.write(frame, content.ljust(PAGE, b"\0"))
        rig.ok("map", slot, ipa, frame, 1)
        vm.pages[ipa] = frame
    for index in range(vcpus):
        vm.contexts.append(rig.take())
        rig.ok("vcpu_create", slot, index, vm.contexts[index])
    rig.ok("vcpu_set_entry", vm.contexts[0], VM_RAM, context)
    rig.ok("activate", slot)
    return vm


def host_pages(rig: Rig) -> Iterator[tuple[int, bytes]]:
    """Address and content of every page of the host's and the VMs' RAM that is not zero."""
    info = BootInfo.decode(rig.read(rig.link.call("ping")["boot_info"], BOOT_INFO.size))
    ranges = [range(base, base + size) for base, size in info.host_ram]
    for base, data in allocated(rig):
        for offset in range(0, len(data), PAGE):
            page = data[offset : offset + PAGE]
            if page.strip(b"\0") and any(base + offset in one for one in ranges):
                yield base + offset, page


def allocated(rig: Rig) -> Iterator[tuple[int, bytes]]:
    """Address and content of each part of RAM, whoever owns it, that was ever written."""
    end = 0
    while True:
        try:
            start = os.lseek(rig.machine.ram, end, os.SEEK_DATA)
        except OSError:  # no data from here on
            return
        end = os.lseek(rig.machine.ram, start, os.SEEK_HOLE)
        yield RAM_BASE + start, os.pread(rig.machine.ram, end - start, start)
