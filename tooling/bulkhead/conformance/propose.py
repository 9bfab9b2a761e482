"""Draws the next call of the host or of a VM: mostly one that makes sense in the machine's present state, often one
that nearly does.

Trust label: TOOL. All choices come from one `random.Random`, so that a seed (or Hypothesis) determines them.
"""

from __future__ import annotations

from random import Random

from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.conformance.machine import MASK, Machine
from bulkhead.conformance.snapshot import records
from bulkhead.inspect.records import FrameRecord, Kind, Shared, VmState
from bulkhead.spec import ARGUMENTS

SLOTS = (0, 1, 2, 63)
"""VM slots in use; few, so that calls meet."""
RAM = 0x4000_0000
RANGES = (
    (RAM, 16 << 20, 0, 0, 0, 0, 0, 0),
    (0, PAGE, RAM, 4 << 20, (1 << 39) - (2 << 20), 2 << 20, 0, 0),
    (0, 1 << 39, 0, 0, 0, 0, 0, 0),
    (RAM, PAGE, RAM + PAGE, PAGE, RAM + (1 << 30), PAGE, (1 << 39) - PAGE, PAGE),
)
"""RAM ranges that vm_create accepts, base and size in turn."""
NEARLY = (
    ((1 << 39) - PAGE, 2 * PAGE, 0, 0, 0, 0, 0, 0),
    (1 << 39, PAGE, 0, 0, 0, 0, 0, 0),
    (RAM, PAGE, RAM, PAGE, 0, 0, 0, 0),
    (RAM + PAGE, PAGE, RAM, PAGE, 0, 0, 0, 0),
    (0, 0, RAM, PAGE, 0, 0, 0, 0),
    (RAM, PAGE, PAGE, 0, 0, 0, 0, 0),
)
"""RAM ranges that it refuses, each for one reason: too long, beyond the end, overlapping, descending, a gap, a base."""
IPAS = (RAM, RAM + PAGE, RAM + (2 << 20), RAM + (1 << 30), 0, (1 << 39) - PAGE)
"""Addresses in those ranges; few, so that they meet."""
ODD = (
    0,
    1,
    2,
    7,
    8,
    9,
    63,
    64,
    PAGE - 1,
    PAGE,
    BLOCK,
    1 << 38,
    1 << 39,
    1 << 48,
    1 << 63,
    MASK,
    MASK & -PAGE,
)
"""Numbers that are seldom right."""
SPLITS = 3
"""Blocks that may be split, the one that boot splits among them."""

RUNNABLE = 1
"""Run state of a vCPU that may be loaded."""
WEIGHTS = {
    "vm_create": 3, "table_donate": 6, "map": 12, "vcpu_create": 4, "vcpu_set_entry": 4, "activate": 6, "vm_kill": 1,
    "reclaim": 8, "table_reclaim": 3, "vm_destroy": 3, "host_split": 1, "map_block": 4, "vm_split": 1,
    "reclaim_block": 3, "share_accept": 6, "share_release": 5, "dma_allow": 2, "dma_revoke": 2,
}  # fmt: skip
VM_CALLS = ("share", "share", "unshare", "relinquish")


class Proposer:
    """Calls for a machine."""

    def __init__(self, machine: Machine, random: Random) -> None:
        self.machine, self.random = machine, random

    def call(self) -> tuple[str, dict[str, int]]:
        """A call that changes ownership, with all its arguments."""
        name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self._look()
        if not self._has_object(name) and self.random.random() < 0.9:
            name = "map"
        arguments = getattr(self, f"_{name}")()
        if self.random.random() < 0.2:
            arguments[self.random.choice(list(arguments))] = self._odd()
        return name, {key: arguments.get(key, 0) for key in ARGUMENTS[name]}

    def vm_call(self) -> tuple[str, int, tuple[int, int, int]] | None:
        """A call of vCPU 0 of a VM that changes ownership: name, VM, and x1 to x3; None if no VM can make any."""
        self._look()
        alive = [slot for slot in SLOTS if self.machine.vm_word(slot, 0) == VmState.ACTIVE]
        if not alive:
            return None
        pages_of: dict[int, list[int]] = {slot: [] for slot in alive}
        for address, word in self._by_kind[Kind.VM_PAGE]:
            pages_of.get(FrameRecord.decode(word).vm, []).append(address)
        vm = self.random.choice([slot for slot, pages in pages_of.items() if pages] or alive)
        pages = pages_of[vm]
        likely = bool(pages) and self.random.random() < 0.8
        ipa = self._ipa_of(self.random.choice(pages)) if likely else self.random.choice((*IPAS, self._odd()))
        zeros = [0 if self.random.random() < 0.95 else self._odd() for _ in range(2)]
        return self.random.choice(VM_CALLS), vm, (ipa, zeros[0], zeros[1])

    def run(self) -> tuple[str, dict[str, int]]:
        """A `vcpu_run`, mostly of a vCPU that can run, or a `vcpu_put`."""
        vcpus = [(address, FrameRecord.decode(word)) for address, word in records(self.machine)
                 if word & 15 == Kind.VCPU]  # fmt: skip
        ready = [address for address, record in vcpus
                 if record.parent == RUNNABLE and self.machine.vm_word(record.vm, 0) == VmState.ACTIVE]  # fmt: skip
        likely = ready or [address for address, _ in vcpus]
        if likely and self.random.random() < 0.9:
            return "vcpu_run", {"vcpu": self.random.choice(likely)}
        return "vcpu_put", {}

    def _has_object(self, name: str) -> bool:
        """Whether there is what a call is about, and room for what it makes."""
        split, whole = self.machine.blocks(Kind.SPLIT), self.machine.blocks(Kind.VM_PAGE)
        match name:
            case "host_split":
                return len(split) < SPLITS
            case "vm_split":
                return bool(whole) and len(split) < SPLITS
            case "reclaim_block":
                return bool(whole)
            case "share_accept" | "share_release":
                wanted = Shared.OFFERED if name == "share_accept" else Shared.ACCEPTED
                return any(
                    FrameRecord.decode(word).shared == wanted for _, word in self._by_kind[Kind.VM_PAGE]
                )
        return True

    def _place(self, level: int) -> tuple[int, int]:
        """A VM and an address that one of its tables of `level` covers, mostly."""
        tables = [
            (address, record)
            for address, word in self._by_kind[Kind.VM_TABLE]
            if (record := FrameRecord.decode(word)).level == level
            and self.machine.vm_word(record.vm, 0) in (VmState.BUILDING, VmState.ACTIVE)
        ]
        if not tables or self.random.random() < 0.2:
            return self._slot(VmState.BUILDING, VmState.ACTIVE), self.random.choice(IPAS)
        table, record = self.random.choice(tables)
        span = PAGE if level == 3 else BLOCK
        return record.vm, self._base_of(table) + span * self.random.choice((0, 0, 1, 2))

    def _base_of(self, table: int) -> int:
        """The first address that a table of level 2 or 3 covers."""
        record = self.machine.frame_record(table)
        if record.level == 2:
            return record.slot << 30
        return self._base_of(self.machine.address(record.parent)) | record.slot << 21

    def _look(self) -> None:
        """What there is of each kind: addresses and record words."""
        self._by_kind: dict[Kind, list[tuple[int, int]]] = {kind: [] for kind in Kind}
        for address, word in records(self.machine):
            self._by_kind[Kind(word & 15)].append((address, word))

    def _ipa_of(self, page: int) -> int:
        """Where a VM sees a page of its own."""
        record = self.machine.frame_record(page)
        return self._base_of(self.machine.address(record.parent)) | record.slot << 12

    def _odd(self) -> int:
        engine = self.machine.blocks(Kind.ENGINE)[-1]
        end = self.machine.address(self.machine.layout.frames)
        whole = self.machine.blocks(Kind.HOST)[0]
        given = [
            address for kind, found in self._by_kind.items() if kind != Kind.HOST for address, _ in found
        ]
        some = self.random.choice(given)  # at least the host's own table is there
        return self.random.choice(
            (*ODD, end, end - PAGE, engine, whole, some, some, some, some + 1, self.random.getrandbits(64))
        )

    def _slot(self, *states: VmState) -> int:
        fitting = [slot for slot in SLOTS if self.machine.vm_word(slot, 0) in states]
        return self.random.choice(fitting if fitting and self.random.random() < 0.9 else SLOTS)

    def _frame(self, *kinds: Kind) -> int:
        found = [address for kind in kinds for address, _ in self._by_kind[kind]]
        if not found:
            return self._odd()
        # The first few only, so that frames serve again and again.
        return self.random.choice(found[:12] if Kind.HOST in kinds else found)

    def _vm_create(self) -> dict[str, int]:
        names = [name for name in ARGUMENTS["vm_create"] if name.startswith("ram")]
        ranges = dict(
            zip(names, self.random.choice(RANGES if self.random.random() < 0.9 else NEARLY), strict=True)
        )
        vcpus = self.random.choice((1, 1, 1, 1, 2, 2, 8, 9))
        return {
            "vm": self._slot(VmState.FREE),
            "root": self._frame(Kind.HOST),
            "vcpus": vcpus,
            "flags": 0,
            **ranges,
        }

    def _table_donate(self) -> dict[str, int]:
        vm, ipa = self._slot(VmState.BUILDING, VmState.ACTIVE), self.random.choice(IPAS)
        return {"vm": vm, "ipa": ipa, "level": self.random.choice((2, 3)), "table": self._frame(Kind.HOST)}

    def _map(self) -> dict[str, int]:
        vm, ipa = self._place(3)
        mode = self.random.choice((0, 1))
        return {"vm": vm, "ipa": ipa, "frame": self._frame(Kind.HOST), "mode": mode}

    def _vcpu_create(self) -> dict[str, int]:
        index = self.random.choice((0, 0, 1, 7))
        return {"vm": self._slot(VmState.BUILDING), "index": index, "frame": self._frame(Kind.HOST)}

    def _vcpu_set_entry(self) -> dict[str, int]:
        entry = self.random.choice((*IPAS, RAM + 4))
        return {"vcpu": self._frame(Kind.VCPU), "entry": entry, "context": self.random.getrandbits(64)}

    def _activate(self) -> dict[str, int]:
        return {"vm": self._slot(VmState.BUILDING)}

    def _vm_kill(self) -> dict[str, int]:
        return {"vm": self._slot(VmState.BUILDING, VmState.ACTIVE)}

    def _vm_destroy(self) -> dict[str, int]:
        return {"vm": self._slot(VmState.DYING)}

    def _reclaim(self) -> dict[str, int]:
        return {"frame": self._frame(Kind.VM_PAGE, Kind.VCPU)}

    def _table_reclaim(self) -> dict[str, int]:
        tables = [
            address for address, word in self._by_kind[Kind.VM_TABLE] if FrameRecord.decode(word).level > 1
        ]
        return {"table": self.random.choice(tables) if tables else self._frame(Kind.VM_TABLE)}

    def _host_split(self) -> dict[str, int]:
        return {
            "block": self.random.choice(self.machine.blocks(Kind.HOST)[-4:]),
            "table": self._frame(Kind.HOST),
        }

    def _block(self, *kinds: Kind) -> int:
        """A block of these kinds, if there is any; of the host's only a few, so that they serve again and again."""
        found = [block for kind in kinds for block in self.machine.blocks(kind)[-4:]]
        return self.random.choice(found) if found else self._odd()

    def _map_block(self) -> dict[str, int]:
        vm, ipa = self._place(2)
        return {"vm": vm, "ipa": ipa & -BLOCK, "block": self._block(Kind.HOST, Kind.UNCLEARED)}

    def _vm_split(self) -> dict[str, int]:
        table, host_table = self._frame(Kind.HOST), self._frame(Kind.HOST)
        return {"block": self._block(Kind.VM_PAGE), "table": table, "host_table": host_table}

    def _reclaim_block(self) -> dict[str, int]:
        return {"block": self._block(Kind.VM_PAGE)}

    def _dma_allow(self) -> dict[str, int]:
        return {"block": self._block(Kind.HOST, Kind.UNCLEARED)}

    def _dma_revoke(self) -> dict[str, int]:
        return {"block": self._block(Kind.DMA)}

    def _share_accept(self) -> dict[str, int]:
        return self._shared_page(Shared.OFFERED)

    def _share_release(self) -> dict[str, int]:
        return self._shared_page(Shared.ACCEPTED)

    def _shared_page(self, shared: Shared) -> dict[str, int]:
        pages = [(address, FrameRecord.decode(word)) for address, word in self._by_kind[Kind.VM_PAGE]]
        fitting = [(address, record) for address, record in pages if record.shared == shared] or pages
        if not fitting:
            return {"vm": self._slot(VmState.ACTIVE), "ipa": self.random.choice(IPAS)}
        address, record = self.random.choice(fitting)
        return {"vm": record.vm, "ipa": self._ipa_of(address)}
