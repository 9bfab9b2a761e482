"""What the engine's loops over memory must have done: every word, every cache line, and in which order.

Trust label: TOOL. A line is cleaned after its last store, and a DSB SY waits for all of it: Arm ARM DDI 0487, D7.5.9.
"""

from __future__ import annotations

from bulkhead.image.memory_map import window
from bulkhead.spec import stage2
from bulkhead.trace.probe import LOADED, STORED, Record

Step = tuple[str | int, ...]
"""A name and its operands."""
Body = list[tuple[Record, Step | None]]
"""All records of a leaf; with the steps of those that executed one."""
RAM = "store to RAM"
LINE = 64
"""Bytes: the shortest cache line that boot accepts."""
FRAME_WORDS, BLOCK_WORDS = 512, 512 * 512
PAGE_SHIFT, BLOCK_SHIFT = 12, 21
_WINDOW = window("RAM").base


def summary(name: str, body: Body, ram_base: int, vms: int) -> tuple[Step, list[str]]:
    """The leaf as a step with its operands, and what is wrong in it."""
    made = {
        "zero_frame": lambda: _zeroed(body, ram_base, FRAME_WORDS, PAGE_SHIFT, cleaned=False),
        "zero_block": lambda: _zeroed(body, ram_base, BLOCK_WORDS, BLOCK_SHIFT, cleaned=True),
        "clean_frame": lambda: _cleaned(body, ram_base, PAGE_SHIFT),
        "fill_table": lambda: _filled_table(body, ram_base),
        "fill_frame_records": lambda: _filled_records(body, "FRAMES"),
        "fill_vm_records": lambda: _filled_records(body, "FRAMES"),
        "measure_frame": lambda: _measured(body, ram_base, vms),
        "measure_words": lambda: _measured(body, ram_base, vms),
        "smmu_invalidate": lambda: _devices(body),
    }
    operands, faults = made[name]() if name in made else ((), [])
    return (name, *operands), [f"{name}: {fault}" for fault in faults]


def text_of(step: Step) -> str:
    """A step for people."""
    return " ".join(str(part) if isinstance(part, str) else f"{part:#x}" for part in step)


def _stores(body: Body) -> list[Record]:
    """Stores to RAM, in their order."""
    return [record for record, _ in body if record.kind == STORED and record.address >> 46 == _WINDOW >> 46]


def _zeroed(
    body: Body, ram_base: int, words: int, shift: int, *, cleaned: bool
) -> tuple[tuple[int, ...], list[str]]:
    stores = _stores(body)
    if not stores:
        return (), ["stores nothing"]
    first = stores[0].address >> shift << shift
    faults = []
    if {record.address for record in stores} != set(range(first, first + 8 * words, 8)):
        faults.append(f"stores to {len({record.address for record in stores})} words, not to all {words}")
    if any(record.value for record in stores):
        faults.append("stores something else than zero")
    if cleaned:
        faults += _cleaned(body, ram_base, shift)[1]
    return ((first - _WINDOW - ram_base) >> shift,), faults


def _cleaned(body: Body, ram_base: int, shift: int) -> tuple[tuple[int, ...], list[str]]:
    cleaned: set[int] = set()
    early = done = False
    for record, step in body:
        if record.kind == STORED:
            early = early or record.address // LINE in cleaned
            done = False
        elif step and step[0] == "dc civac":
            cleaned.add(int(step[1]) // LINE)
            done = False
        elif step and step[0] == "dsb sy":
            done = True
    if not cleaned:
        return (), ["cleans and invalidates nothing"]
    first = min(cleaned) * LINE >> shift << shift
    lines = range(first // LINE, (first + (1 << shift)) // LINE)
    faults = [] if cleaned == set(lines) else [f"cleans {len(cleaned & set(lines))} of {len(lines)} lines"]
    faults += ["cleans a line before a store to it"] if early else []
    faults += [] if done else ["does not wait for the maintenance with DSB SY"]
    return ((first - _WINDOW - ram_base) >> shift,), faults


def _filled_table(body: Body, ram_base: int) -> tuple[tuple[int, ...], list[str]]:
    stores = _stores(body)
    if not stores:
        return (), ["stores nothing"]
    table = stores[0].address >> PAGE_SHIFT << PAGE_SHIFT
    block = stores[0].value >> BLOCK_SHIFT << BLOCK_SHIFT
    wanted = {table + 8 * n: block + (n << PAGE_SHIFT) | stage2.PAGE for n in range(512)}
    faults = (
        [] if {record.address: record.value for record in stores} == wanted else ["stores other descriptors"]
    )
    return ((table - _WINDOW - ram_base) >> PAGE_SHIFT, (block - ram_base) >> BLOCK_SHIFT), faults


def _filled_records(body: Body, name: str) -> tuple[tuple[int, ...], list[str]]:
    base = window(name).base
    places = {
        record.address for record, _ in body if record.kind == STORED and record.address >> 40 == base >> 40
    }
    if not places:
        return (), ["stores nothing"]
    first = (min(places) - base) // 8 >> 9
    wanted = set(range(base + (first << 12), base + ((first + 1) << 12), 8))
    return (first,), [] if places == wanted else [f"stores {len(places & wanted)} of 512 records"]


def _measured(body: Body, ram_base: int, vms: int) -> tuple[tuple[int, ...], list[str]]:
    """Where the digest is, and the frame that was read, if any."""
    ram = {
        record.address
        for record, _ in body
        if record.kind == LOADED and record.address >> 46 == _WINDOW >> 46
    }
    digest = [
        record.address for record, _ in body if record.kind == STORED and 0 <= record.address - vms < 64 * 512
    ]
    operands: tuple[int, ...] = ((min(digest) - vms) // 8,) if digest else ()
    faults = [] if len(digest) == 4 else [f"stores {len(digest)} words of the digest, not 4"]
    if ram:
        first = min(ram) >> PAGE_SHIFT << PAGE_SHIFT
        operands += ((first - _WINDOW - ram_base) >> PAGE_SHIFT,)
        faults += (
            [] if ram == set(range(first, first + 4096, 8)) else ["does not read every word of the frame"]
        )
    return operands, faults


CMD_TLBI_S12_VMALL, CMD_SYNC, DMA_VMID = 0x28, 0x46, 65
"""Commands of the SMMU (IHI 0070, 4.1.2) and the VMID of the devices' tables: one more than the last VM's."""
PROD = window("DEVICE").base + 0x0905_0000 + 0x98
"""CMDQ_PROD of the SMMU (IHI 0070, 6.3.27) in the engine's device window."""


def _devices(body: Body) -> tuple[tuple[int, ...], list[str]]:
    """Both commands are in the queue, and a DSB is between them and the SMMU's being told; a DSB ends it all."""
    image, commands, waited, told, done = window("IMAGE"), [], False, 0, False
    for record, step in body:
        if step is not None and step[0] == "dsb sy":
            waited = done = True
        elif record.kind == STORED and record.address == PROD:
            told += 1
            if not waited:
                return (), ["tells the SMMU without DSB SY after the commands"]
        elif record.kind == STORED and image.base <= record.address < image.base + image.size:
            commands.append(record.value)
            waited = False
        if record.kind == STORED:
            done = False
    wanted = [CMD_TLBI_S12_VMALL | DMA_VMID << 32, 0, CMD_SYNC, 0]
    faults = (
        []
        if commands == wanted
        else [f"commands {', '.join(map(hex, commands))}, not {', '.join(map(hex, wanted))}"]
    )
    faults += [] if told == 1 else [f"tells the SMMU {told} times"]
    faults += [] if done else ["does not end with DSB SY"]
    return (), faults
