"""Judgements about a stopped machine: does what the hardware lets the host reach agree with the records, is
what a VM had really gone?

Trust label: CHECKED. Promises P5, P6 and P7 on memory, as observations of a running system.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bulkhead.errors import CheckFailed
from bulkhead.inspect.engine import FRAMES_PER_BLOCK, EngineView
from bulkhead.inspect.pagetable import Reach
from bulkhead.inspect.ram import PAGE
from bulkhead.inspect.records import OF_A_VM, OF_THE_HOST, FrameRecord, Kind, VmState

BLOCK = FRAMES_PER_BLOCK * PAGE


def isolation_faults(view: EngineView) -> list[str]:
    """Every disagreement between records and translation tables; empty if all is well.

    The host reaches no frame that is not recorded as its own or as a shared page that it has accepted; its devices
    reach DMA windows only; a VM reaches exactly its own pages; every table of a VM is recorded as its table.
    """
    faults = []
    for one in view.host_mappings():
        for address in range(one.output, one.output + one.size, min(one.size, BLOCK)):
            record = _record_of(view, address, one.size)
            if view.ram.base <= address < view.ram.base + view.ram.size and not record.is_hosts:
                faults.append(f"the host reaches {address:#x}, recorded as {record.kind.name}")
    for one in view.device_mappings():
        kind = view.block_record(view.frame(one.output) // FRAMES_PER_BLOCK)
        if one.output != one.address or kind != Kind.DMA:
            faults.append(f"devices reach {one.output:#x}, recorded as {kind.name}, at {one.address:#x}")
    for slot, vm in view.live_vms().items():
        if vm.state == VmState.BUILDING and vm.root == 0:
            continue
        faults += _vm_faults(view, slot)
    return faults


def _record_of(view: EngineView, address: int, size: int) -> FrameRecord:
    """What the records say of a whole mapping: a block that is mapped whole must be recorded whole."""
    frame = view.frame(address)
    if size < BLOCK or not 0 <= frame < view.config.frames:
        return view.record(frame)
    return view.blocks[frame // FRAMES_PER_BLOCK]


def _vm_faults(view: EngineView, slot: int) -> list[str]:
    faults = []
    own = view.frames_of(slot)
    pages = {frame for frame, one in own.items() if one.kind == Kind.VM_PAGE}
    mapped = {
        view.frame(address)
        for one in view.vm_mappings(slot)
        for address in range(one.output, one.output + one.size, PAGE)
    }
    faults += [
        f"VM {slot} reaches frame {frame:#x}, not recorded as its page" for frame in sorted(mapped - pages)
    ]
    faults += [
        f"frame {frame:#x} is recorded as VM {slot}'s page but not mapped" for frame in sorted(pages - mapped)
    ]
    for address, level in view.vm_tables(slot):
        one = own.get(view.frame(address))
        if one is None or one.kind != Kind.VM_TABLE or one.level != level:
            faults.append(f"level {level} table {address:#x} of VM {slot} is recorded as {one}")
    return faults


@dataclass(frozen=True)
class Sighting:
    """Where a pattern was found, whose frame that is, and whether the host could read it there."""

    address: int
    owner: str
    host_reaches: bool


def sightings(view: EngineView, pattern: bytes) -> list[Sighting]:
    """Every occurrence of `pattern` in RAM."""
    reach = Reach(view.host_mappings())
    return [Sighting(found, view.owner(found).owner, found in reach) for found in view.ram.find(pattern)]


def scrub_faults(view: EngineView, vm: int, frames: Iterable[int]) -> list[str]:
    """What is left of a destroyed VM that had `frames`: its slot, records, or contents; empty if nothing."""
    faults = []
    if view.vm(vm).state != VmState.FREE:
        faults.append(f"slot {vm} is {view.vm(vm).state.name}, not FREE")
    faults += [
        f"frame {frame:#x} is still recorded as {one.kind.name}" for frame, one in view.frames_of(vm).items()
    ]
    for frame in frames:
        record = view.record(frame)
        if record.kind in OF_A_VM:
            continue
        if record.kind not in OF_THE_HOST:
            faults.append(f"frame {frame:#x} became {record.kind.name}, not HOST")
        elif not view.ram.is_zero(view.frame_address(frame)):
            faults.append(f"frame {frame:#x} came back with contents")
    return faults


def require(faults: list[str], what: str) -> None:
    """CheckFailed with the first few of `faults`, if there are any."""
    if faults:
        shown = "\n".join(f"    {fault}" for fault in faults[:10])
        more = f"\n    and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise CheckFailed(f"{what}:\n{shown}{more}", hint="this breaks a promise of the engine: report it")
