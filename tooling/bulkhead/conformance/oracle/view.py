"""A conformance machine as `bulkhead.inspect` sees a stopped one: what its tables reach, and what its records say.

Trust label: TOOL. The same judgements are made of fake RAM, of QEMU and of a crashed machine.
"""

from __future__ import annotations

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.oracle.walk import Memory
from bulkhead.image.memory_map import window
from bulkhead.inspect.engine import Config, EngineView
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.inspect.records import VM_RECORD, FrameRecord, VmRecord


class _Ram(RamSnapshot):
    """RAM of a conformance machine; pages are remembered, so this is one moment."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(-1, memory.layout.ram_base, memory.layout.frames * PAGE)
        self._memory = memory

    def read(self, address: int, length: int) -> bytes:
        """See RamSnapshot."""
        return self._memory.physical(address, length)


class MachineView(EngineView):
    """One moment of a machine. Arrays are where its layout says, not where the engine's own tables lead."""

    def __init__(self, memory: Memory) -> None:
        layout = memory.layout
        self.ram = _Ram(memory)
        self.config = Config(layout.ram_base, layout.frames, layout.cpus)
        self._layout = layout
        self._host_root = layout.host_root
        self._blocks: list[FrameRecord] = []
        self._owned: dict[int, dict[int, FrameRecord]] = {}
        self._arrays = {
            window("BLOCKS").base: layout.block_records,
            window("FRAMES").base: layout.frame_records,
            window("HOST_L2").base: layout.host_level2,
            window("DMA_L2").base: layout.dma_level2,
        }

    def physical(self, address: int) -> int:
        """Of an address in one of the arrays."""
        base = max(start for start in self._arrays if start <= address)
        return self._arrays[base] + address - base

    def vm(self, slot: int) -> VmRecord:
        """The record of a VM slot."""
        return VmRecord.decode(self.ram.read(self._layout.vm_records + slot * VM_RECORD.size, VM_RECORD.size))
