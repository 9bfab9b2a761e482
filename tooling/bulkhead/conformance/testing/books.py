"""What the host knows of its frames and VMs, for choosing arguments and for cleaning up; nothing is judged by it.

Trust label: TOOL. `Records` reads the engine's own records; `Books` keeps its own from calls that succeeded, as any
hypervisor must, and serves backends without raw memory. Blocks and frames are named by physical address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from bulkhead import abi
from bulkhead.conformance.backends.backend import BLOCK, PAGE, Layout
from bulkhead.conformance.oracle.snapshot import WORD, frame_record_address, records, unpack
from bulkhead.conformance.oracle.walk import Memory
from bulkhead.inspect.records import VM_RECORD, FrameRecord, Kind, Shared, VmState

ADDRESS = 0x0000_FFFF_FFFF_F000
HOST = FrameRecord(Kind.HOST)
_EXITS = {line.name: line.value for line in abi.load().exits}
_ENDS = {line.id for line in abi.load().standards if line.name in ("PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET")}
_SHARE, _UNSHARE, _RELINQUISH = (abi.load().call(name).id for name in ("share", "unshare", "relinquish"))


class Known(Protocol):
    """Who has what."""

    def frame(self, address: int) -> FrameRecord:
        """A frame of a split block."""
        ...

    def block(self, address: int) -> FrameRecord:
        """The block that holds `address`."""
        ...

    def vm(self, slot: int) -> VmState:
        """State of a VM slot."""
        ...

    def frames(self, kinds: Collection[Kind]) -> Iterator[int]:
        """Frames of split blocks of these kinds, ascending."""
        ...

    def blocks(self, kind: Kind) -> list[int]:
        """Blocks of a kind, ascending."""
        ...

    def host_table(self, address: int) -> int:
        """The host's level 3 table of the split block that holds `address`."""
        ...


class Records:
    """From raw memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._layout = memory, memory.layout

    def _word(self, address: int) -> int:
        return unpack(self._memory.physical(address, WORD))[0]

    def _block_word(self, array: int, address: int) -> int:
        return self._word(array + (address - self._layout.ram_base) // BLOCK * WORD)

    def frame(self, address: int) -> FrameRecord:
        """See Known."""
        return FrameRecord.decode(self._word(frame_record_address(self._layout, address)))

    def block(self, address: int) -> FrameRecord:
        """See Known."""
        return FrameRecord.decode(self._block_word(self._layout.block_records, address))

    def vm(self, slot: int) -> VmState:
        """See Known."""
        return VmState(self._word(self._layout.vm_records + slot * VM_RECORD.size))

    def frames(self, kinds: Collection[Kind]) -> Iterator[int]:
        """See Known."""
        return (address for address, word in records(self._memory) if word & 15 in kinds)

    def blocks(self, kind: Kind) -> list[int]:
        """See Known."""
        words = unpack(self._memory.physical(self._layout.block_records, self._layout.blocks * WORD))
        return [self._layout.ram_base + n * BLOCK for n, word in enumerate(words) if word & 15 == kind]

    def host_table(self, address: int) -> int:
        """See Known."""
        return self._block_word(self._layout.host_level2, address) & ADDRESS


class Books:
    """From the host's own calls, from a boot on. `blocks(HOST)` leaves out those that the host program needs."""

    def __init__(self, layout: Layout, whole_blocks: Collection[int]) -> None:
        """`whole_blocks` are the host's at boot, and free to give away."""
        self._blocks = dict.fromkeys(whole_blocks, HOST)
        self._blocks[layout.split_block] = FrameRecord(Kind.SPLIT)
        own = FrameRecord(Kind.HOST_TABLE, parent=(layout.split_block - layout.ram_base) // BLOCK)
        self._frames = {layout.split_block: own}
        self._vms: dict[int, VmState] = {}
        self._pages: dict[tuple[int, int], int] = {}
        self._layout = layout

    def frame(self, address: int) -> FrameRecord:
        """See Known."""
        return self._frames.get(address, HOST)

    def block(self, address: int) -> FrameRecord:
        """See Known."""
        return self._blocks.get(address & -BLOCK, FrameRecord(Kind.ENGINE))

    def vm(self, slot: int) -> VmState:
        """See Known."""
        return self._vms.get(slot, VmState.FREE)

    def frames(self, kinds: Collection[Kind]) -> Iterator[int]:
        """See Known."""
        for block in self.blocks(Kind.SPLIT):
            yield from (
                frame for frame in range(block, block + BLOCK, PAGE) if self.frame(frame).kind in kinds
            )

    def blocks(self, kind: Kind) -> list[int]:
        """See Known."""
        everything = range(self._layout.ram_base, self._layout.end, BLOCK)
        return [block for block in everything if self.block(block).kind == kind]

    def host_table(self, address: int) -> int:
        """See Known."""
        wanted = FrameRecord(Kind.HOST_TABLE, parent=(address - self._layout.ram_base) // BLOCK)
        return next(frame for frame, record in self._frames.items() if record == wanted)

    def note(self, call: str, a: Mapping[str, int], results: Mapping[str, int]) -> None:
        """A call of the host succeeded with arguments `a`."""
        match call:
            case "vm_create":
                self._vms[a["vm"]] = VmState.BUILDING
                self._frames[a["root"]] = FrameRecord(Kind.VM_TABLE, 1, a["vm"])
            case "vm_kill":
                self._vms[a["vm"]] = VmState.DYING
            case "activate":
                self._vms[a["vm"]] = VmState.ACTIVE
            case "vm_destroy":
                del self._vms[a["vm"]]
                self._drop(
                    {f for f, r in self._frames.items() if r.kind == Kind.VM_TABLE and r.vm == a["vm"]}
                )
            case "host_split" | "vm_split" | "map_block" | "reclaim_block" | "dma_allow" | "dma_revoke":
                self._note_block(call, a)
            case "vcpu_run":
                self._note_exit(a["vcpu"], results)
            case _:
                self._note_frame(call, a, results)

    def _note_frame(self, call: str, a: Mapping[str, int], results: Mapping[str, int]) -> None:
        match call:
            case "table_donate":
                self._frames[a["table"]] = FrameRecord(Kind.VM_TABLE, a["level"], a["vm"])
            case "map":
                self._frames[a["frame"]] = FrameRecord(Kind.VM_PAGE, 0, a["vm"])
                self._pages[a["vm"], a["ipa"]] = a["frame"]
            case "vcpu_create":
                self._frames[a["frame"]] = FrameRecord(Kind.VCPU, 0, a["vm"], a["index"])
            case "vcpu_set_entry":
                old = self._frames[a["vcpu"]]
                self._frames[a["vcpu"]] = FrameRecord(Kind.VCPU, 0, old.vm, old.slot, parent=1)
            case "table_reclaim":
                self._drop({a["table"]})
            case "reclaim":
                self._drop({a["frame"]})
            case "share_accept" | "share_release":
                shared = Shared.ACCEPTED if call == "share_accept" else Shared.OFFERED
                self._share(a["vm"], a["ipa"], shared)

    def _note_block(self, call: str, a: Mapping[str, int]) -> None:
        block = a["block"]
        number = (block - self._layout.ram_base) // BLOCK
        match call:
            case "map_block":
                self._blocks[block] = FrameRecord(Kind.VM_PAGE, 0, a["vm"])
            case "dma_allow":
                self._blocks[block] = FrameRecord(Kind.DMA)
            case "reclaim_block" | "dma_revoke":
                self._blocks[block] = HOST
            case "host_split":
                self._blocks[block] = FrameRecord(Kind.SPLIT)
                self._frames[a["table"]] = FrameRecord(Kind.HOST_TABLE, parent=number)
            case "vm_split":
                page = self._blocks[block]
                self._blocks[block] = FrameRecord(Kind.SPLIT)
                self._frames |= dict.fromkeys(range(block, block + BLOCK, PAGE), page)
                self._frames[a["table"]] = FrameRecord(Kind.VM_TABLE, 3, page.vm)
                self._frames[a["host_table"]] = FrameRecord(Kind.HOST_TABLE, parent=number)

    def _note_exit(self, vcpu: int, results: Mapping[str, int]) -> None:
        """A VM has shared a page, taken it back, given it up, or ended."""
        kind, function, ipa, *_ = results.values()
        vm = self._frames[vcpu].vm
        if kind == _EXITS["DIED"] or (kind == _EXITS["PSCI"] and function in _ENDS):
            self._vms[vm] = VmState.DYING
        if kind != _EXITS["SHARE"]:
            return
        if function == _RELINQUISH and (vm, ipa) in self._pages:
            self._drop({self._pages[vm, ipa]})
        elif function in (_SHARE, _UNSHARE):
            self._share(vm, ipa, Shared.OFFERED if function == _SHARE else Shared.PRIVATE)

    def _share(self, vm: int, ipa: int, shared: Shared) -> None:
        frame = self._pages.get((vm, ipa))
        if frame is not None:
            self._frames[frame] = FrameRecord(Kind.VM_PAGE, 0, vm, shared=shared)

    def _drop(self, frames: set[int]) -> None:
        """Frames that are the host's again."""
        for frame in frames:
            self._frames.pop(frame, None)
        self._pages = {place: frame for place, frame in self._pages.items() if frame not in frames}
