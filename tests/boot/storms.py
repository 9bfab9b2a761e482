"""Storms: all CPUs make random calls on the same VMs, frames and blocks at once, and what must hold afterwards.

Trust label: TOOL. The payload makes the calls (`payload/src/storm.rs`); here is the code that its VMs run, and the
judgement: records and tables agree, everything can be taken back, every page of RAM is then zero, the host's own, or
the engine's, and no secret is left anywhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from boot.assembly import assemble
from bulkhead import abi
from bulkhead.conformance import Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.testing.builder import dismantle, owned_frames
from bulkhead.image.memory_map import PERCPU_AREAS, PERCPU_STRIDE, window
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.records import Kind
from bulkhead.machine.qemu import RAM_BASE

CPUS = 4
STEPS = 500
"""Of each CPU: a step is a call, the building of a VM, a few turns of a vCPU, ..."""
SECONDS = 300.0
BLOCKS = 16
SECRET = b"\x5e\xc2\xe7storm"
"""What every VM writes wherever it can and keeps in registers; nobody else ever writes it."""
EXITS = [line.name for line in abi.load().exits]
# x20 draws numbers. The page that an access goes to is one of the first eight of one of the four blocks of RAM.
GUEST = f"""
    mov x20, x0
    mov x1, #(3 << 20)
    msr cpacr_el1, x1
    isb
    ldr x21, ={~int.from_bytes(SECRET, "little") & (1 << 64) - 1:#x}
    mvn x21, x21
    fmov d0, x21
1:  ldr x1, =6364136223846793005
    mul x20, x20, x1
    add x20, x20, #1
    lsr x2, x20, #60
    ubfx x3, x20, #40, #3
    lsl x3, x3, #12
    ubfx x4, x20, #44, #2
    add x3, x3, x4, lsl #21
    mov x4, #0x40000000
    add x4, x4, x3
    cmp x2, #9
    b.hi 2f
    str x21, [x4, #0x800]
    b 1b
2:  cmp x2, #10
    b.ne 3f
    wfi
    b 1b
3:  bic x1, x4, #0x6000      // two pages of each block, so that much of what is shared is unshared, too
    mov x2, xzr
    mov x3, xzr
    ubfx x5, x20, #36, #4
    ldr x0, =0xC6000003     // share
    cmp x5, #6
    b.lo 4f
    ldr x0, =0xC6000004     // unshare
    cmp x5, #9
    b.lo 4f
    ldr x0, =0xC6000045     // relinquish
    cmp x5, #11
    b.lo 4f
    ldr x0, =0xC4000003     // CPU_ON of the other vCPU, or of itself, at the first instruction
    ubfx x1, x20, #28, #1
    mov x2, #0x40000000
    mov x3, x20
    cmp x5, #15
    b.lo 4f
    ldr x0, =0xC4000053     // TRNG_RND64
    mov x1, #192
    mov x2, xzr
    mov x3, xzr
    ubfx x5, x20, #30, #4
    cmp x5, #12
    b.hs 4f
    ldr x0, =0x84000002     // CPU_OFF
    cmp x5, #6
    b.hs 4f
    ldr x0, =0x84000008     // SYSTEM_OFF or SYSTEM_RESET
    and x5, x5, #1
    add x0, x0, x5
4:  hvc #0
    b 1b
"""


@dataclass(frozen=True)
class Call:
    """How often a call was made, succeeded, and was BUSY."""

    made: int
    succeeded: int
    busy: int

    def __add__(self, other: Call) -> Call:
        return Call(self.made + other.made, self.succeeded + other.succeeded, self.busy + other.busy)


@dataclass(frozen=True)
class Counts:
    """What happened in a storm, or in several: calls, exits of vCPUs, other events (`payload/src/tally.rs`)."""

    calls: Mapping[str, Call]
    exits: Mapping[str, int]
    events: Mapping[str, int]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Counts:
        """From the payload's answer, or from a record."""
        exits = data["exits"]
        exits = exits if isinstance(exits, Mapping) else dict(zip(EXITS, exits, strict=True))
        return cls({name: Call(*numbers) for name, numbers in data["calls"].items()}, exits, data["events"])

    def record(self) -> dict[str, Any]:
        """For a file."""
        calls = {name: [one.made, one.succeeded, one.busy] for name, one in self.calls.items()}
        return {"calls": calls, "exits": dict(self.exits), "events": dict(self.events)}

    def __add__(self, other: Counts) -> Counts:
        none = Call(0, 0, 0)
        return Counts(
            {name: self.calls.get(name, none) + call for name, call in other.calls.items()},
            Counter(self.exits) + Counter(other.exits),
            Counter(self.events) + Counter(other.events),
        )

    @property
    def total(self) -> Call:
        """All calls."""
        return sum(self.calls.values(), Call(0, 0, 0))


STACK = PERCPU_AREAS[1]
NOTHING = Counts({}, {}, {})


class Storms:
    """A machine for storms."""

    def __init__(self, backend: QemuBackend) -> None:
        """Uses the split block and, for each storm, other whole blocks of the host: storms split them for good."""
        self.backend = backend
        self._prepare()

    def _prepare(self) -> None:
        self.machine = Machine(self.backend)
        (self.split,) = self.machine.blocks(Kind.SPLIT)
        self.code = self.split + PAGE
        self.backend.write(self.code, assemble(GUEST).ljust(PAGE, b"\0"))
        self.booted = self.pages()

    def run(self, seed: int) -> Counts:
        """One storm and the judgement; what happened in it."""
        if (block := self.whole_blocks()) is None:
            self.backend.reset()
            self._prepare()
            block = self.whole_blocks()
        assert block is not None
        counts = self.backend.storm(
            timeout=SECONDS,
            seed=random.Random(seed).getrandbits(63),
            steps=STEPS,
            frame=self.code + PAGE,
            frames=BLOCK // PAGE - 2,
            block=block,
            blocks=BLOCKS,
            code=self.code,
        )
        self.judge()
        return Counts.of(counts)

    def whole_blocks(self) -> int | None:
        """The highest place where so many whole blocks of the host follow each other."""
        whole = set(self.machine.blocks(Kind.HOST)) - self.backend.programs
        fitting = (block for block in whole if whole.issuperset(range(block, block + BLOCKS * BLOCK, BLOCK)))
        return max(fitting, default=None)

    def judge(self) -> None:
        """What holds after any storm."""
        machine = self.machine
        invariants.check(Snapshot.take(machine))
        dismantle(machine)
        invariants.check(Snapshot.take(machine))
        left = [machine.vm_word(slot, 0) for slot in range(64)]
        assert not any(left), "every VM slot is free"
        assert owned_frames(machine) == []
        assert machine.blocks(Kind.VM_PAGE) == []
        assert machine.blocks(Kind.DMA) == []
        dirty = [f"{address:#x} ({self.owner(address).name})" for address in self.left_in_ram()]
        assert dirty == [], f"frames of the host that came back with contents: {dirty}"
        stacks = self.stacks()
        places = [
            f"{place:#x} ({self.owner(place).name})"
            for place in self.backend.find(SECRET)
            if place not in stacks
        ]
        assert places == [], f"a VM's secret is left in RAM: {places}"

    def stacks(self) -> set[int]:
        """Addresses in the engine's stacks, where an exit leaves x19 to x28 for a while; nobody else maps them."""
        bases = [window("PERCPU").base + cpu * PERCPU_STRIDE + STACK.offset for cpu in range(CPUS)]
        with stopped_view(self.backend.machine, self.backend.symbols) as view:
            pages = [view.physical(base + at) for base in bases for at in range(0, STACK.size, PAGE)]
        return {page + at for page in pages for at in range(0, PAGE, 8)}

    def pages(self) -> dict[int, bytes]:
        """All pages of RAM that are not zero."""
        every = range(RAM_BASE, RAM_BASE + self.backend.machine.config.memory, BLOCK)
        blocks = ((block, self.backend.physical(block, BLOCK)) for block in every)
        return {
            block + at: content[at : at + PAGE]
            for block, content in blocks
            if any(content)
            for at in range(0, BLOCK, PAGE)
            if any(content[at : at + PAGE])
        }

    def left_in_ram(self) -> Iterator[int]:
        """Pages of RAM, all of them looked at, that hold what neither the host nor the engine has put there."""
        code = self.booted[self.code]
        for page, content in self.pages().items():
            kind = self.owner(page)
            if kind in (Kind.ENGINE, Kind.HOST_TABLE) or page // BLOCK * BLOCK in self.backend.programs:
                continue
            # A CPU may have lost the frame while it wrote the guest's code into it.
            foreign = any(byte not in (0, own) for byte, own in zip(content, code, strict=True))
            if foreign and self.booted.get(page) != content:
                yield page

    def owner(self, address: int) -> Kind:
        """What the records say of an address."""
        block, page = address // BLOCK * BLOCK, address // PAGE * PAGE
        record = self.machine.block_record(block)
        return self.machine.frame_record(page).kind if record.kind == Kind.SPLIT else record.kind
