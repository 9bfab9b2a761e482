"""What holds in every state: records and tables say the same, from both sides.

Trust label: TOOL. Each rule is about one record and its neighbours; what the walks reach is the hardware's view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.oracle.snapshot import Snapshot, unpack
from bulkhead.conformance.oracle.view import MachineView
from bulkhead.conformance.oracle.walk import Memory
from bulkhead.inspect.checks import isolation_faults
from bulkhead.inspect.pagetable import ADDRESS, VALID
from bulkhead.inspect.records import OF_A_VM, VM_RECORD, VM_SLOTS, FrameRecord, Kind, VmRecord, VmState

LEAF, BLOCK_LEAF, TABLE = 0x7FF, 0x7FD, 0x003
"""Attributes of a RAM page, of a RAM block and of a table descriptor."""


class Consistency:
    """One snapshot, checked."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.base = snapshot.layout.ram_base
        self.records = {
            block + n * PAGE: FrameRecord.decode(word)
            for block, data in snapshot.records.items()
            for n, word in enumerate(unpack(data))
        }
        self.blocks = {
            self.base + n * BLOCK: FrameRecord.decode(word) for n, word in enumerate(unpack(snapshot.blocks))
        }
        self.host_entries = unpack(snapshot.host_level2)
        self.dma_entries = unpack(snapshot.dma_level2)
        self.host_leaves = {
            block: self.words(self.host_entries[(block - self.base) // BLOCK] & ADDRESS)
            for block in snapshot.records
        }
        size = VM_RECORD.size
        self.vms = [VmRecord.decode(snapshot.vms[size * slot :][:size]) for slot in range(VM_SLOTS)]

    def violations(self) -> Iterator[str]:
        """Sentences, none if all is well."""
        for block, record in self.blocks.items():
            yield from self._block(block, record)
        for frame, record in self.records.items():
            yield from self._host_side(frame, record)
            if record.shared and record.kind != Kind.VM_PAGE:
                yield f"frame {frame:#x} is {record}: shared, but no page"
            if record.kind in (Kind.VM_PAGE, Kind.VM_TABLE):
                yield from self._mapped(frame, record)
            if record.kind == Kind.VM_TABLE:
                yield from self._entries(frame, record)
            if record.kind == Kind.VCPU and self.vms[record.vm].vcpus[record.slot] != self._index(frame):
                yield f"vCPU {record} at {frame:#x} is not in its VM's record"
        for slot, vm in enumerate(self.vms):
            yield from self._vm(slot, vm)

    def words(self, frame: int) -> tuple[int, ...]:
        """The 512 words of a frame of a split block."""
        block = frame & -BLOCK
        return unpack(self.snapshot.contents[block][frame - block : frame - block + PAGE])

    def _index(self, frame: int) -> int:
        return (frame - self.base) // PAGE

    def _address(self, index: int) -> int:
        return self.base + index * PAGE

    def _block(self, block: int, record: FrameRecord) -> Iterator[str]:
        """A block, and what host and devices have in its place."""
        number = (block - self.base) // BLOCK
        entry, dma, leaf = self.host_entries[number], self.dma_entries[number], block | BLOCK_LEAF
        if record.kind == Kind.SPLIT:
            table = self.records.get(entry & ADDRESS)
            if entry & ~ADDRESS != TABLE or table != FrameRecord(Kind.HOST_TABLE, parent=number):
                yield f"block {block:#x} is SPLIT, but the host's entry is {entry:#x} and names {table}"
        elif entry != (leaf if record.kind in (Kind.HOST, Kind.DMA) else 0):
            yield f"block {block:#x} is {record}, but the host's entry is {entry:#x}"
        if dma != (leaf if record.kind == Kind.DMA else 0):
            yield f"block {block:#x} is {record}, but the devices' entry is {dma:#x}"
        if record.kind == Kind.VM_PAGE:
            yield from self._mapped(block, record, whole=True)
        elif record != FrameRecord(record.kind) or record.kind not in OF_A_BLOCK:
            yield f"block {block:#x} is {record}"

    def _host_side(self, frame: int, record: FrameRecord) -> Iterator[str]:
        leaf = self.host_leaves[frame & -BLOCK][self._index(frame) % 512]
        wanted = frame | LEAF if record.is_hosts else 0
        if leaf != wanted:
            yield f"frame {frame:#x} is {record}, but the host's leaf is {leaf:#x}"

    def _mapped(self, frame: int, record: FrameRecord, whole: bool = False) -> Iterator[str]:
        """A page or table (or whole block) of a VM: its parent has it."""
        attributes = TABLE if record.kind == Kind.VM_TABLE else BLOCK_LEAF if whole else LEAF
        if record.kind == Kind.VM_TABLE and record.level == 1:
            if self.vms[record.vm].root != self._index(frame):
                yield f"root table {frame:#x} is not that of VM {record.vm}"
            return
        parent = self._address(record.parent)
        wanted = record.level - 1 if record.kind == Kind.VM_TABLE else 2 if whole else 3
        above = self.records.get(parent)
        if above is None or (above.kind, above.vm, above.level) != (Kind.VM_TABLE, record.vm, wanted):
            yield f"frame {frame:#x} is {record}, but its parent is {above}"
        elif self.words(parent)[record.slot] != frame | attributes:
            yield f"frame {frame:#x} is {record}, but its entry is {self.words(parent)[record.slot]:#x}"

    def _entries(self, table: int, own: FrameRecord) -> Iterator[str]:
        """The entries of a VM's table: what they name says that it is there."""
        for slot, entry in enumerate(self.words(table)):
            if not entry:
                continue
            page = FrameRecord(Kind.VM_PAGE, 0, own.vm, slot, self._index(table))
            lower = FrameRecord(Kind.VM_TABLE, own.level + 1, own.vm, slot, self._index(table))
            named = self.records.get(entry & ADDRESS)
            attributes, wanted = (LEAF, page) if own.level == 3 else (TABLE, lower)
            if own.level == 2 and entry & ~ADDRESS == BLOCK_LEAF:
                attributes, named, wanted = BLOCK_LEAF, self.blocks.get(entry & ADDRESS), page
            if named is not None and own.level == 3:
                wanted = replace(page, shared=named.shared)
            if not entry & VALID or entry & ~ADDRESS != attributes or named != wanted:
                yield f"entry {slot} of table {table:#x} is {entry:#x}, which names {named}"

    def _vm(self, slot: int, vm: VmRecord) -> Iterator[str]:
        if vm.state == VmState.FREE:
            if any(self.snapshot.vms[VM_RECORD.size * slot :][: VM_RECORD.size]):
                yield f"VM {slot} is FREE, but its record is not zero"
            everything = (*self.records.values(), *self.blocks.values())
            if any(record.vm == slot and record.kind in OF_A_VM for record in everything):
                yield f"VM {slot} is FREE, but owns frames"
            return
        if self.records.get(self._address(vm.root)) != FrameRecord(Kind.VM_TABLE, 1, slot):
            yield f"the root of VM {slot} is {self.records.get(self._address(vm.root))}"
        for index, frame in enumerate(vm.vcpus):
            record = None if frame is None else self.records.get(self._address(frame))
            if frame is not None and (
                record is None or (record.kind, record.vm, record.slot) != (Kind.VCPU, slot, index)
            ):
                yield f"vCPU {index} of VM {slot} is {record}"


OF_A_BLOCK = (Kind.ENGINE, Kind.HOST, Kind.UNCLEARED, Kind.DMA, Kind.SPLIT)
"""Kinds of blocks about which the record says nothing else."""


def check(snapshot: Snapshot) -> None:
    """AssertionError naming everything that does not fit together."""
    __tracebackhide__ = True
    violations = list(Consistency(snapshot).violations())
    assert not violations, "records and tables do not agree:\n  " + "\n  ".join(violations[:20])


def check_reach(memory: Memory) -> None:
    """AssertionError naming what the tables of host, devices and VMs reach and the records do not grant."""
    __tracebackhide__ = True
    faults = isolation_faults(MachineView(memory))
    assert not faults, "the hardware reaches what it must not:\n  " + "\n  ".join(faults[:20])
