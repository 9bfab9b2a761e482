"""What holds in every state: records and tables say the same, from both sides.

Trust label: TOOL. Each rule is about one record and its neighbours; what the walks reach is the hardware's view.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.conformance.snapshot import Snapshot, unpack
from bulkhead.inspect.pagetable import ADDRESS, VALID
from bulkhead.inspect.records import VM_RECORD, VM_SLOTS, FrameRecord, Kind, VmRecord, VmState

LEAF, TABLE = 0x7FF, 0x003
"""Attributes of a RAM page and of a table descriptor."""


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
                yield from self._mapped(frame, record)
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
        entries = unpack(self.snapshot.host_level2)
        for n, kind in enumerate(unpack(self.snapshot.blocks)):
            address = self.base + n * BLOCK
            wanted = {Kind.ENGINE: 0, Kind.HOST: address | 0x7FD}
            if kind in wanted and entries[n] != wanted[Kind(kind)]:
                yield f"block {address:#x} is {Kind(kind).name}, but the host's entry is {entries[n]:#x}"
            if kind == Kind.SPLIT:
                table = self.records.get(entries[n] & ADDRESS)
                if entries[n] & ~ADDRESS != TABLE or table != FrameRecord(Kind.HOST_TABLE, parent=n):
                    yield f"block {address:#x} is SPLIT, but the host's entry is {entries[n]:#x} and names {table}"

    def _host_side(self, frame: int, record: FrameRecord) -> Iterator[str]:
        leaf = self.host_leaves[frame & -BLOCK][self._index(frame) % 512]
        wanted = frame | LEAF if record.kind == Kind.HOST else 0
        if leaf != wanted:
            yield f"frame {frame:#x} is {record}, but the host's leaf is {leaf:#x}"

    def _mapped(self, frame: int, record: FrameRecord) -> Iterator[str]:
        if record.kind == Kind.VM_TABLE and record.level == 1:
            if self.vms[record.vm].root != self._index(frame):
                yield f"root table {frame:#x} is not that of VM {record.vm}"
            return
        parent = self._address(record.parent)
        wanted = record.level - 1 if record.kind == Kind.VM_TABLE else 3
        above = self.records.get(parent)
        if above is None or (above.kind, above.vm, above.level) != (Kind.VM_TABLE, record.vm, wanted):
            yield f"frame {frame:#x} is {record}, but its parent is {above}"
        elif self.words(parent)[record.slot] != frame | (LEAF if record.kind == Kind.VM_PAGE else TABLE):
            yield f"frame {frame:#x} is {record}, but its entry is {self.words(parent)[record.slot]:#x}"

    def _entries(self, table: int, level: int, attributes: int) -> Iterator[str]:
        owner = self.records[table].vm
        kind = Kind.VM_TABLE if level else Kind.VM_PAGE
        for slot, entry in enumerate(self.words(table)):
            named = self.records.get(entry & ADDRESS)
            wanted = FrameRecord(kind, level, owner, slot, self._index(table))
            if entry & VALID and (entry & ~ADDRESS != attributes or named != wanted):
                yield f"entry {slot} of table {table:#x} is {entry:#x}, which names {named}"
            if entry and not entry & VALID:
                yield f"entry {slot} of table {table:#x} is {entry:#x}: invalid, but not zero"

    def _vm(self, slot: int, vm: VmRecord) -> Iterator[str]:
        if vm.state == VmState.FREE:
            if any(self.snapshot.vms[VM_RECORD.size * slot :][: VM_RECORD.size]):
                yield f"VM {slot} is FREE, but its record is not zero"
            if any(record.vm == slot and record.kind in _OWNED for record in self.records.values()):
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
