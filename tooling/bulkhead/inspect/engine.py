"""The engine's state as the hardware and the ownership records tell it, read from a stopped machine.

Trust label: TOOL. The way in: TTBR0_EL2 and VTTBR_EL2 from the emulated CPU; the engine's own stage 1 then
leads from the virtual windows and the linked addresses of symbols to physical RAM. No software is asked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulkhead.errors import MachineError
from bulkhead.image.memory_map import window
from bulkhead.inspect.pagetable import ADDRESS, Mapping, flat_leaves, leaves, tables, translate
from bulkhead.inspect.ram import PAGE, RamSnapshot
from bulkhead.inspect.records import OF_A_VM, VM_RECORD, VM_SLOTS, FrameRecord, Kind, VmRecord, VmState
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.machine.qemu import RAM_BASE, QemuMachine

BLOCKS = window("BLOCKS").base
FRAMES = window("FRAMES").base
DMA_L2 = window("DMA_L2").base
FRAMES_PER_BLOCK = 512
HOST_VMID = 0
VM_LEVEL = 1  # 39-bit IPA
EL2_LEVEL = 0  # 48-bit VA
HOST_LEVEL = 0


@dataclass(frozen=True)
class Config:
    """The engine's CONFIG: where frames start, how many there are, how many CPUs."""

    ram_base: int
    frames: int
    cpus: int


class EngineView:
    """Everything below is one moment of a stopped machine."""

    def __init__(self, ram: RamSnapshot, symbols: Symbols, el2_root: int, host_root: int | None) -> None:
        """`el2_root`: the engine's stage 1; `host_root`: the host's stage 2, if some CPU ran the host."""
        self.ram = ram
        self.symbols = symbols
        self.el2_root = el2_root
        self._host_root = host_root
        self._blocks: list[FrameRecord] = []
        self._owned: dict[int, dict[int, FrameRecord]] = {}
        base, frames, cpus, *_ = memoryview(self.read_virtual(symbols.address("CONFIG"), 24)).cast("Q")
        self.config = Config(base, frames, cpus)

    def physical(self, address: int) -> int:
        """Physical address of an EL2 virtual address. MachineError if the engine does not map it."""
        found = translate(self.ram.words, self.el2_root, EL2_LEVEL, address)
        if found is None:
            raise MachineError(
                f"the engine does not map {address:#x}", hint="do the symbols belong to this image?"
            )
        return found

    def read_virtual(self, address: int, length: int) -> bytes:
        """Bytes at an EL2 virtual address."""
        data = b""
        while len(data) < length:
            here = address + len(data)
            data += self.ram.read(self.physical(here), min(PAGE - here % PAGE, length - len(data)))
        return data

    def frame(self, address: int) -> int:
        """Frame index of a physical address."""
        return (address - self.config.ram_base) // PAGE

    def frame_address(self, frame: int) -> int:
        """Physical address of a frame."""
        return self.config.ram_base + frame * PAGE

    @property
    def host_root(self) -> int:
        """Root table of the host's stage 2. MachineError if no CPU was running the host at that moment."""
        if self._host_root is None:
            raise MachineError("no CPU was running the host", hint="look again a moment later")
        return self._host_root

    @property
    def blocks(self) -> list[FrameRecord]:
        """The records of all 2 MiB blocks, in order."""
        if not self._blocks:
            words = memoryview(self.read_virtual(BLOCKS, 8 * (self.config.frames // FRAMES_PER_BLOCK))).cast(
                "Q"
            )
            self._blocks = [FrameRecord.decode(word) for word in words]
        return self._blocks

    def block_record(self, block: int) -> Kind:
        """What a 2 MiB block is."""
        return self.blocks[block].kind

    def record(self, frame: int) -> FrameRecord:
        """The record of a frame: that of its block, or its own if the block is split."""
        if not 0 <= frame < self.config.frames:
            return FrameRecord(Kind.ENGINE)
        block = self.blocks[frame // FRAMES_PER_BLOCK]
        if block.kind != Kind.SPLIT:
            return block
        return FrameRecord.decode(self.ram.word(self.physical(FRAMES + 8 * frame)))

    def owner(self, address: int) -> FrameRecord:
        """The record of the frame that contains a physical address."""
        return self.record(self.frame(address))

    def records(self) -> Iterator[tuple[int, FrameRecord]]:
        """(frame, record) of every frame in a split block."""
        for block in range(self.config.frames // FRAMES_PER_BLOCK):
            if self.block_record(block) == Kind.SPLIT:
                first = block * FRAMES_PER_BLOCK
                for index, word in enumerate(self.ram.words(self.physical(FRAMES + 8 * first))):
                    yield first + index, FrameRecord.decode(word)

    def frames_of(self, vm: int) -> dict[int, FrameRecord]:
        """Every frame recorded as the VM's: pages, tables and vCPUs; those of whole blocks have the block's record."""
        if not self._owned:
            self._owned = {slot: {} for slot in range(VM_SLOTS)}
            for frame, one in self.records():
                if one.kind in OF_A_VM:
                    self._owned[one.vm][frame] = one
            for number, one in enumerate(self.blocks):
                if one.kind in OF_A_VM:
                    first = number * FRAMES_PER_BLOCK
                    self._owned[one.vm] |= dict.fromkeys(range(first, first + FRAMES_PER_BLOCK), one)
        return self._owned[vm]

    def vm(self, slot: int) -> VmRecord:
        """The record of a VM slot."""
        start = self.symbols.address("VMS") + slot * VM_RECORD.size
        return VmRecord.decode(self.read_virtual(start, VM_RECORD.size))

    def live_vms(self) -> dict[int, VmRecord]:
        """The VM slots in use."""
        return {slot: one for slot in range(VM_SLOTS) if (one := self.vm(slot)).state != VmState.FREE}

    def host_mappings(self) -> Iterator[Mapping]:
        """What the hardware lets the host reach."""
        return leaves(self.ram.words, self.host_root, HOST_LEVEL)

    def device_mappings(self) -> Iterator[Mapping]:
        """What the SMMU lets the host's devices reach."""
        words = memoryview(self.read_virtual(DMA_L2, 8 * len(self.blocks))).cast("Q")
        return flat_leaves(words, self.config.ram_base)

    def vm_mappings(self, slot: int) -> Iterator[Mapping]:
        """What the hardware lets a VM reach."""
        return leaves(self.ram.words, self.frame_address(self.vm(slot).root), VM_LEVEL)

    def vm_tables(self, slot: int) -> Iterator[tuple[int, int]]:
        """(physical address, level) of a VM's tables."""
        return tables(self.ram.words, self.frame_address(self.vm(slot).root), VM_LEVEL)

    def digest(self) -> str:
        """A hash of all records and the host's stage 2: equal if and only if nothing of them changed."""
        state = hashlib.sha256()
        for block, record in enumerate(self.blocks):
            state.update(repr(record).encode())
            if record.kind == Kind.SPLIT:
                page = self.physical(FRAMES + 8 * block * FRAMES_PER_BLOCK)
                state.update(self.ram.read(page, PAGE))
        for one in self.host_mappings():
            state.update(repr(one).encode())
        state.update(self.read_virtual(self.symbols.address("VMS"), VM_SLOTS * VM_RECORD.size))
        return state.hexdigest()


def _roots(machine: QemuMachine) -> tuple[int, int | None]:
    stub = GdbStub(machine.gdb, machine.wait_until)
    el2 = stub.register("TTBR0_EL2") & ADDRESS & ~1
    for cpu in range(machine.config.cpus):
        vttbr = stub.register("VTTBR_EL2", cpu)
        if vttbr & ADDRESS and vttbr >> 48 == HOST_VMID:
            return el2, vttbr & ADDRESS
    return el2, None


@contextmanager
def stopped_view(machine: QemuMachine, symbols: Symbols, *, patience: float = 10.0) -> Iterator[EngineView]:
    """Stop the machine at a moment when some CPU runs the host, and look; it runs on after the block.

    MachineError after `patience` seconds without such a moment.
    """
    limit = time.monotonic() + patience
    while True:
        with machine.paused():
            el2, host = _roots(machine)
            if host is not None:
                yield EngineView(
                    RamSnapshot(machine.ram, RAM_BASE, machine.config.memory), symbols, el2, host
                )
                return
        if time.monotonic() > limit:
            raise MachineError(
                f"no CPU ran the host for {patience:g} s", hint="is a VM looping with interrupts off?"
            )
        machine.pump(0.02)
