"""VMs for tests, built call by call, every call of which must succeed. Trust label: TOOL."""

from __future__ import annotations

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.testing.machine import Machine
from bulkhead.inspect.records import OF_A_VM, VM_SLOTS, Kind, VmState
from bulkhead.measurement import Measurement

RAM = 0x4000_0000
SPAN = {2: 1 << 30, 3: 2 << 20}
"""Bytes that a table of level 2 or 3 covers."""
Ranges = tuple[tuple[int, int], ...]
"""RAM ranges of a VM: base and bytes."""
ORDINARY_RAM: Ranges = ((RAM, 16 << 20),)
MODE_ZEROED, MODE_MEASURED = 0, 1


class Vm:
    """A VM in a slot. `tables` by (level, first IPA), `pages` and `blocks` by IPA, `contexts` by vCPU
    index, all as physical addresses.
    """

    def __init__(
        self,
        machine: Machine,
        slot: int = 0,
        ram: Ranges = ORDINARY_RAM,
        vcpus: int = 1,
    ) -> None:
        """Calls vm_create with a frame taken from the machine; `ram` is (base, bytes) of up to four ranges."""
        self.machine, self.slot, self.ram, self.vcpus = machine, slot, ram, vcpus
        self.tables: dict[tuple[int, int], int] = {}
        self.pages: dict[int, int] = {}
        self.blocks: dict[int, int] = {}
        self.contexts: dict[int, int] = {}
        self.measurement = Measurement()
        self.root = machine.take()
        machine.ok("vm_create", vm=slot, root=self.root, vcpus=vcpus, **range_arguments(ram))
        self.measurement.create(vcpus, 0, ram)

    def table(self, level: int, ipa: int = RAM) -> int:
        """Donates the table of `level` that covers `ipa`."""
        frame = self.machine.take()
        self.machine.ok("table_donate", vm=self.slot, ipa=ipa, level=level, table=frame)
        self.tables[level, ipa & -SPAN[level]] = frame
        return frame

    def cover(self, ipa: int = RAM) -> Vm:
        """Donates whichever tables a page at `ipa` still needs."""
        for level in (2, 3):
            if (level, ipa & -SPAN[level]) not in self.tables:
                self.table(level, ipa)
        return self

    def page(self, ipa: int = RAM, content: bytes | None = None) -> int:
        """Maps a page at `ipa`: zeroed, or measured with `content` (zero-padded to 4096 bytes). Its frame."""
        self.cover(ipa)
        frame = self.machine.take()
        mode = MODE_ZEROED
        if content is not None:
            padded = content.ljust(PAGE, b"\0")
            self.machine.backend.write(frame, padded)
            self.measurement.page(ipa, padded)
            mode = MODE_MEASURED
        self.machine.ok("map", vm=self.slot, ipa=ipa, frame=frame, mode=mode)
        self.pages[ipa] = frame
        return frame

    def block(self, ipa: int = RAM) -> int:
        """Maps a whole block, zeroed, at `ipa`. Its address."""
        if (2, ipa & -SPAN[2]) not in self.tables:
            self.table(2, ipa)
        block = self.machine.take_block()
        self.machine.ok("map_block", vm=self.slot, ipa=ipa, block=block)
        self.blocks[ipa] = block
        return block

    def vcpu(self, index: int = 0) -> int:
        """Creates vCPU `index`. Its frame."""
        frame = self.machine.take()
        self.machine.ok("vcpu_create", vm=self.slot, index=index, frame=frame)
        self.measurement.vcpu(index)
        self.contexts[index] = frame
        return frame

    def entry(self, entry: int = RAM, context: int = 0) -> Vm:
        """Sets where vCPU 0 starts."""
        self.machine.ok("vcpu_set_entry", vcpu=self.contexts[0], entry=entry, context=context)
        self.measurement.entry(entry, context)
        return self

    def activate(self) -> Vm:
        """Creates the vCPUs that are missing, sets the entry if nobody has, seals the VM."""
        for index in range(self.vcpus):
            if index not in self.contexts:
                self.vcpu(index)
        if self.machine.known.frame(self.contexts[0]).parent == 0:
            self.entry()
        self.machine.ok("activate", vm=self.slot)
        return self

    def kill(self) -> Vm:
        """Marks the VM DYING."""
        self.machine.ok("vm_kill", vm=self.slot)
        return self

    @property
    def state(self) -> VmState:
        """State in the VM's record."""
        return self.machine.vm_record(self.slot).state


def range_arguments(ram: Ranges) -> dict[str, int]:
    """RAM ranges as arguments of vm_create."""
    arguments: dict[str, int] = {}
    for number, (base, size) in enumerate(ram):
        arguments |= {f"ram{number}_base": base, f"ram{number}_size": size}
    return arguments


def dismantle(machine: Machine) -> None:
    """End every VM and take everything back, as a host would that has lost its notes: from what is known."""
    known = machine.known
    for block in known.blocks(Kind.DMA):
        machine.ok("dma_revoke", block=block)
    alive = [slot for slot in range(VM_SLOTS) if known.vm(slot) != VmState.FREE]
    if not alive:
        return
    for cpu in range(machine.layout.cpus):
        machine.ok("vcpu_put", cpu=cpu)
    for slot in alive:
        if known.vm(slot) != VmState.DYING:
            machine.ok("vm_kill", vm=slot)
    owned = [(frame, known.frame(frame)) for frame in owned_frames(machine)]
    for frame, record in owned:
        if record.kind in (Kind.VM_PAGE, Kind.VCPU):
            machine.ok("reclaim", frame=frame)
    for block in known.blocks(Kind.VM_PAGE):
        machine.ok("reclaim_block", block=block)
    for level in (3, 2):
        for frame, record in owned:
            if record.kind == Kind.VM_TABLE and record.level == level:
                machine.ok("table_reclaim", table=frame)
    for slot in alive:
        machine.ok("vm_destroy", vm=slot)


def owned_frames(machine: Machine) -> list[int]:
    """Frames that belong to any VM."""
    return list(machine.known.frames(OF_A_VM))
