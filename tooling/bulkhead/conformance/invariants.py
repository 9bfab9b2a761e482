"""What holds in every state: records and tables say the same, from both sides.

Trust label: TOOL. Each rule is about one record and its neighbours; what the walks reach is the hardware's view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.conformance.snapshot import Snapshot, unpack
from bulkhead.inspect.pagetable import ADDRESS, VALID
from bulkhead.inspect.records import VM_RECORD, VM_SLOTS, FrameRecord, Kind, Shared, VmRecord, VmState

LEAF, BLOCK_LEAF, TABLE = 0x7FF, 0x7FD, 0x003
"""Attributes of a RAM page, of a block of RAM and of a table descriptor."""


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
        entries = unpack(snapshot.host_level2)
        self.host_leaves = {
            block: self.words(entries[(block - self.base) // BLOCK] & ADDRESS) for block in snapshot.records
        }
        size = VM_RECORD.size
        self.vms = [VmRecord.decode(snapshot.vms[size * slot :][:size]) for slot in range(VM_SLOTS)]

    def violations(self) -> Iterator[str]:
        """Sentences, none if all is well."""
        yield from self._blocks()
        for frame, record in self.records.items():
            yield from self._host_side(frame, record)
            if record.kind in (Kind.VM_PAGE, Kind.VM_TABLE):
                yield from self._mapped(frame, record, 3, LEAF)
            if record.kind == Kind.VM_TABLE and record.level < 3:
                yield from self._entries(frame, record.level + 1, TABLE)
            if record.kind == Kind.VM_TABLE and record.level == 3:
                yield from self._entries(frame, 0, LEAF)
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

    def _blocks(self) -> Iterator[str]:
        entries, devices = unpack(self.snapshot.host_level2), unpack(self.snapshot.dma_level2)
        for n, (address, record) in enumerate(self.blocks.items()):
            if record.kind == Kind.SPLIT:
                table = self.records.get(entries[n] & ADDRESS)
                if entries[n] & ~ADDRESS != TABLE or table != FrameRecord(Kind.HOST_TABLE, parent=n):
                    yield f"block {address:#x} is SPLIT, but the host's entry is {entries[n]:#x} and names {table}"
            elif entries[n] != (address | BLOCK_LEAF if record.kind in (Kind.HOST, Kind.DMA) else 0):
                yield f"block {address:#x} is {record}, but the host's entry is {entries[n]:#x}"
            if devices[n] != (address | BLOCK_LEAF if record.kind == Kind.DMA else 0):
                yield f"block {address:#x} is {record}, but the devices' entry is {devices[n]:#x}"
            if record.kind == Kind.VM_PAGE:
                yield from self._mapped(address, record, 2, BLOCK_LEAF)
            elif record != FrameRecord(record.kind):
                yield f"block {address:#x} is {record}"

    def _host_side(self, frame: int, record: FrameRecord) -> Iterator[str]:
        leaf = self.host_leaves[frame & -BLOCK][self._index(frame) % 512]
        wanted = frame | LEAF if record.kind == Kind.HOST or record.shared == Shared.ACCEPTED else 0
        if leaf != wanted:
            yield f"frame {frame:#x} is {record}, but the host's leaf is {leaf:#x}"
        if record.shared and record.kind != Kind.VM_PAGE:
            yield f"frame {frame:#x} is {record}, which cannot be shared"

    def _mapped(self, frame: int, record: FrameRecord, level: int, leaf: int) -> Iterator[str]:
        """Frame or block `frame` of a VM; if it is no table, it is mapped at `level` by an entry like `leaf`."""
        if record.kind == Kind.VM_TABLE and record.level == 1:
            if self.vms[record.vm].root != self._index(frame):
                yield f"root table {frame:#x} is not that of VM {record.vm}"
            return
        parent = self._address(record.parent)
        wanted = record.level - 1 if record.kind == Kind.VM_TABLE else level
        above = self.records.get(parent)
        if above is None or (above.kind, above.vm, above.level) != (Kind.VM_TABLE, record.vm, wanted):
            yield f"frame {frame:#x} is {record}, but its parent is {above}"
        elif self.words(parent)[record.slot] != frame | (leaf if record.kind == Kind.VM_PAGE else TABLE):
            yield f"frame {frame:#x} is {record}, but its entry is {self.words(parent)[record.slot]:#x}"

    def _entries(self, table: int, level: int, attributes: int) -> Iterator[str]:
        owner = self.records[table].vm
        kind = Kind.VM_TABLE if level else Kind.VM_PAGE
        for slot, entry in enumerate(self.words(table)):
            named = self.records.get(entry & ADDRESS)
            wanted = FrameRecord(kind, level, owner, slot, self._index(table))
            expected = attributes
            if level == 3 and entry & TABLE == VALID:  # a whole block
                named, expected = self.blocks.get(entry & ADDRESS), BLOCK_LEAF
                wanted = FrameRecord(Kind.VM_PAGE, vm=owner, slot=slot, parent=self._index(table))
            fits = named is not None and replace(named, shared=Shared.PRIVATE) == wanted
            if entry & VALID and (entry & ~ADDRESS != expected or not fits):
                yield f"entry {slot} of table {table:#x} is {entry:#x}, which names {named}"
            if entry and not entry & VALID:
                yield f"entry {slot} of table {table:#x} is {entry:#x}: invalid, but not zero"

    def _vm(self, slot: int, vm: VmRecord) -> Iterator[str]:
        if vm.state == VmState.FREE:
            if any(self.snapshot.vms[VM_RECORD.size * slot :][: VM_RECORD.size]):
                yield f"VM {slot} is FREE, but its record is not zero"
            owned = (*self.records.values(), *self.blocks.values())
            if any(record.vm == slot and record.kind in _OWNED for record in owned):
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


_OWNED = (Kind.VM_PAGE, Kind.VM_TABLE, Kind.VCPU)


def check(snapshot: Snapshot) -> None:
    """AssertionError naming everything that does not fit together."""
    __tracebackhide__ = True
    violations = list(Consistency(snapshot).violations())
    assert not violations, "records and tables do not agree:\n  " + "\n  ".join(violations[:20])
