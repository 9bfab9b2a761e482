"""Attributes of every descriptor in use, field by field: what emulation does not need and hardware does.

Trust label: CHECKED. Source: Arm ARM DDI 0487, D8.3.1 (descriptor formats), D8.4 (permissions), D8.6 (memory types) and
D24.2 (`MAIR_EL2`, `VTCR_EL2`, `TCR_EL2`). QEMU's caches are always coherent and it shares everything, so a wrong
memory type, shareability or access flag would not show otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from bulkhead.image.memory_map import window
from bulkhead.inspect.engine import EL2_LEVEL, HOST_LEVEL, VM_LEVEL, EngineView
from bulkhead.inspect.pagetable import ADDRESS, TABLE, VALID, Words, leaves, tables
from bulkhead.inspect.pagetable import Mapping as Leaf

Field = tuple[int, int]
"""Lowest bit and width."""
STAGE2: Mapping[str, Field] = {
    "MemAttr": (2, 4), "S2AP": (6, 2), "SH": (8, 2), "AF": (10, 1), "FnXS": (11, 1), "bits 50:48": (48, 3),
    "DBM": (51, 1), "Contiguous": (52, 1), "XN": (53, 2), "software": (55, 4), "bits 63:59": (59, 5),
}  # fmt: skip
STAGE1: Mapping[str, Field] = {
    "AttrIndx": (2, 3), "NS": (5, 1), "AP": (6, 2), "SH": (8, 2), "AF": (10, 1), "nG": (11, 1),
    "bits 49:48": (48, 2), "GP": (50, 1), "DBM": (51, 1), "Contiguous": (52, 1), "PXN": (53, 1), "XN": (54, 1),
    "software": (55, 4), "bits 63:59": (59, 5),
}  # fmt: skip
INNER, OUTER_WRITE_BACK = 0b11, 0b1111
RAM = {"MemAttr": OUTER_WRITE_BACK, "S2AP": 0b11, "SH": INNER, "AF": 1}
"""Normal, inner and outer Write-Back; read and write; inner shareable; accessed. The other fields are zero."""
DEVICE = {"MemAttr": 0b0001, "S2AP": 0b11, "AF": 1, "XN": 0b10}
"""Device-nGnRE; read and write; accessed; not executable."""
CODE = {"AttrIndx": 0, "AP": 0b11, "SH": INNER, "AF": 1}
READ_ONLY = CODE | {"XN": 1}
DATA = {"AttrIndx": 0, "AP": 0b01, "SH": INNER, "AF": 1, "XN": 1}
"""AP[1] is RES1 in EL2's regime."""
REGISTERS = DATA | {"AttrIndx": 1}
MAIR = (0xFF, 0x04)
"""What AttrIndx 0 and 1 mean: Normal, Write-Back, allocating, non-transient; Device-nGnRE."""


def decode(fields: Mapping[str, Field], descriptor: int) -> dict[str, int]:
    """The fields of a leaf that are not zero."""
    values = {name: descriptor >> low & ((1 << width) - 1) for name, (low, width) in fields.items()}
    return {name: value for name, value in values.items() if value}


def faults(view: EngineView) -> list[str]:
    """Every leaf and table descriptor of host, devices, VMs and engine with other attributes than specified."""
    words = view.ram.words
    found = list(_leaves("the host", view.host_mappings(), STAGE2, lambda one: _stage2(view, one)))
    found += _leaves("devices", view.device_mappings(), STAGE2, lambda one: RAM)
    found += _tables("the host", words, view.host_root, HOST_LEVEL)
    for slot, vm in view.live_vms().items():
        found += _leaves(f"VM {slot}", view.vm_mappings(slot), STAGE2, lambda one: RAM)
        found += _tables(f"VM {slot}", words, view.frame_address(vm.root), VM_LEVEL)
    own = leaves(words, view.el2_root, EL2_LEVEL)
    found += _leaves("the engine", own, STAGE1, lambda one: _stage1(view, one))
    found += _tables("the engine", words, view.el2_root, EL2_LEVEL)
    return found


def register_faults(registers: Mapping[str, int]) -> list[str]:
    """What is wrong with MAIR_EL2, TCR_EL2 and VTCR_EL2, on which the meaning of descriptors depends."""
    found = []
    mair = tuple(registers["MAIR_EL2"] >> 8 * index & 0xFF for index in range(2))
    if mair != MAIR:
        found.append(f"MAIR_EL2 has {mair[0]:#x} and {mair[1]:#x} for AttrIndx 0 and 1")
    for name in ("TCR_EL2", "VTCR_EL2"):
        value = registers[name]
        # Walks: inner and outer Write-Back Write-Allocate, inner shareable; granule of 4 KiB.
        got = (value >> 8 & 3, value >> 10 & 3, value >> 12 & 3, value >> 14 & 3)
        if got != (1, 1, INNER, 0):
            found.append(f"{name} has IRGN0, ORGN0, SH0, TG0 = {got}")
    return found


def _leaves(
    whose: str,
    every: Iterable[Leaf],
    fields: Mapping[str, Field],
    specified: Callable[[Leaf], Mapping[str, int]],
) -> Iterator[str]:
    for one in every:
        got, wanted = (
            decode(fields, one.attributes),
            {name: value for name, value in specified(one).items() if value},
        )
        if got != wanted:
            where = f"{whose}'s level {one.level} leaf for {one.address:#x}"
            yield f"{where} has {_text(got)}, specified is {_text(wanted)}"


def _text(fields: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value:#b}" for name, value in fields.items()) or "nothing"


def _tables(whose: str, words: Words, root: int, level: int) -> Iterator[str]:
    """Table descriptors: NSTable, APTable, UXNTable, PXNTable and all else but the address are zero."""
    for table, at in tables(words, root, level):
        for index, descriptor in enumerate(words(table) if at < 3 else ()):
            names_table = descriptor & VALID and descriptor & TABLE
            if names_table and descriptor & ~ADDRESS != VALID | TABLE:
                where = f"{whose}'s level {at} table {table:#x}"
                yield f"{where} names a table with {descriptor & ~ADDRESS:#x} at {index:#x}"


def _stage2(view: EngineView, one: Leaf) -> Mapping[str, int]:
    return RAM if view.ram.base <= one.output < view.ram.base + view.ram.size else DEVICE


def _stage1(view: EngineView, one: Leaf) -> Mapping[str, int]:
    image, symbols = window("IMAGE"), view.symbols
    if one.address == view.physical(image.base):
        return CODE  # the page that turned the MMU on
    if one.address in range(image.base, image.base + image.size):
        ends = ("__text_end", CODE), ("__rodata_end", READ_ONLY)
        return next((kind for name, kind in ends if one.address < symbols.address(name)), DATA)
    device = window("DEVICE")
    return REGISTERS if one.address in range(device.base, device.base + device.size) else DATA
