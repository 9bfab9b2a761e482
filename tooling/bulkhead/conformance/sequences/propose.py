"""Draws arguments for calls and steps from what the ghost knows: such as make sense now, and such as nearly do.

Trust label: TOOL. All choices come from one `random.Random`, so that a seed (or Hypothesis) determines them. For a
new call or step: a method that proposes arguments with which it should succeed; `value` says what else they may be.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.conformance.sequences.steps import FIRST_TOUCH, RUNS, VM_CALLS, WRITE, Step
from bulkhead.conformance.sequences.values import (
    BOUNDS,
    FRAMES,
    IPAS,
    NEARLY,
    NUMBERS,
    ODD,
    OF_BLOCKS,
    RAM,
    RANGES,
    SLOTS,
    TOP,
)
from bulkhead.spec import ARGUMENTS
from bulkhead.spec.state import VM_SLOTS, Kind, Record, VmState, VmWord

SPLITS = 4
"""Blocks that may be split, the one that boot splits among them: of a split block all is compared."""
ALIVE = (VmState.BUILDING, VmState.ACTIVE)
CLASSES = (
    "host", "private page", "offered page", "accepted page", "table 1", "table 2", "table 3", "vcpu", "vcpu off",
    "loaded vcpu", "host table",
)  # fmt: skip
"""What a frame of a split block can be."""
OTHER_KINDS = (Kind.HOST, Kind.UNCLEARED, Kind.ENGINE, Kind.VM_PAGE, Kind.DMA, Kind.SPLIT)


class Proposer:
    """Steps for the machine of a ghost."""

    def __init__(self, ghost: Ghost, random: Random) -> None:
        self.ghost, self.random = ghost, random
        self._base = ghost.machine.layout.ram_base
        self._cpus = ghost.machine.layout.cpus
        self._methods: dict[str, Callable[[], dict[str, int] | None]] = {
            name: getattr(self, f"_{name}") for name in (*ARGUMENTS, "vcpu_run")
        }

    def likely(self, name: str) -> Step | None:
        """A step of that name that makes sense now, None if none comes to mind."""
        arguments = self._methods[name]() if name in self._methods else {}
        return None if arguments is None else self.step(name, arguments)

    def unlikely(self, name: str, argument: str | None = None, status: str = "") -> Step:
        """The same with one argument that is something else, `argument` if given, such as might lead to `status`; or
        another place in a VM.
        """
        likely = self.likely(name)
        if likely is None:
            names = ARGUMENTS.get(name, ("vcpu",))
            return self.step(name, {key: self.value(key) for key in names})
        arguments = dict(likely.arguments)
        if argument is not None:
            arguments[argument] = self.value(argument, status)
        elif "ipa" in arguments and self.random.random() < 0.5:
            arguments["vm"], arguments["ipa"] = self._anywhere()
        elif arguments:
            argument = self.random.choice(tuple(arguments))
            arguments[argument] = self.value(argument)
        if name == "vm_split" and self.random.random() < 0.1:
            arguments["host_table"] = arguments["table"]
        return self.step(name, arguments)

    def write(self) -> Step | None:
        """Somebody fills a page of its own: of the host, of a VM, or of a VM's block."""
        name = self.random.choice(("host", "host", "private page", "accepted page", ""))
        frame = self.ghost.index.frames[name].recent(self.random) if name else None
        if not name:
            block = self.ghost.index.blocks[Kind.VM_PAGE].any(self.random)
            frame = (
                None if block is None else block * FRAMES_IN_BLOCK + self.random.randrange(FRAMES_IN_BLOCK)
            )
        if frame is None:
            return None
        return Step(WRITE, {"frame": self.address(frame), "seed": self.random.getrandbits(32)})

    def value(self, argument: str, status: str = "") -> int:
        """Something for an argument, right or wrong; such as leads to `status`, if that says what it must be."""
        choice = self.random.choice
        if status in OF_BLOCKS and (found := self.block(OF_BLOCKS[status])) is not None:
            return found
        if self.random.random() < 0.1:
            return choice((*ODD, self.random.getrandbits(64)))
        if argument in FRAMES:
            return self._some_frame()
        if argument.startswith("ram"):
            return choice(BOUNDS)
        match argument:
            case "vm":
                return choice((*SLOTS, 5, VM_SLOTS))
            case "ipa":
                return choice((*IPAS, RAM + 1, TOP, self._place(3)[1], self._place(2)[1]))
            case "block":
                return self._some_block()
        return choice(NUMBERS[argument])

    def address(self, frame: int) -> int:
        """Physical address of a frame."""
        return self._base + frame * PAGE

    # What there is

    def step(self, name: str, arguments: dict[str, int]) -> Step:
        """With these arguments on any CPU."""
        if name in ARGUMENTS:
            arguments = {key: arguments.get(key, 0) for key in ARGUMENTS[name]}
        return Step(name, arguments, self.random.randrange(self._cpus))

    def word(self, vm: int, word: int) -> int:
        """Of the record of a VM."""
        value = self.ghost.state.vm[vm << 6 | word]
        assert isinstance(value, int)
        return value

    def host_frame(self) -> int:
        """A frame that the host can give away; if there is none, one that it cannot."""
        return self._frame("host") or self.ghost.machine.layout.end

    def _slot(self, *states: VmState) -> int | None:
        fitting = [slot for slot in SLOTS if self.word(slot, VmWord.STATE) in states]
        return self.random.choice(fitting) if fitting else None

    def _frame(self, *names: str) -> int | None:
        """Address of a frame of one of these classes."""
        bags = [bag for name in names if (bag := self.ghost.index.frames[name])]
        if not bags:
            return None
        frame = self.random.choice(bags).recent(self.random)
        return None if frame is None else self.address(frame)

    def block(self, *kinds: Kind) -> int | None:
        """Address of a block of one of these kinds; of the host's only those that came last, to be met again."""
        bags = [bag for kind in kinds if (bag := self.ghost.index.blocks[kind])]
        if not bags:
            return None
        block = self.random.choice(bags).recent(self.random)
        return None if block is None else self._base + block * BLOCK

    def _some_frame(self) -> int:
        """Any address that is, or is not, one of a frame."""
        chance = self.random.random()
        if chance < 0.5:
            found = self._frame(self.random.choice(CLASSES))
        elif chance < 0.9:
            found = self.block(self.random.choice(OTHER_KINDS))
        else:
            end = self.ghost.machine.layout.end
            found = self.random.choice(((self._frame("host") or 0) + 1, end, end - PAGE))
        return self.ghost.machine.layout.end if found is None else found

    def _some_block(self) -> int:
        """Any address that is, or is not, one of a block."""
        if self.random.random() < 0.15:
            return (self.block(Kind.HOST) or 0) + PAGE
        found = self.block(self.random.choice(OTHER_KINDS))
        return self.ghost.machine.layout.end if found is None else found

    def _record(self, address: int) -> Record:
        return self.ghost.state.frame[(address - self._base) // PAGE]

    def _base_of(self, table: Record) -> int:
        """The first address that a table of level 2 or 3 covers."""
        slot = table.slot
        assert isinstance(slot, int)
        if table.level == 2:
            return slot << 30
        return self._base_of(self.ghost.state.frame[table.parent]) | slot << 21

    def _place(self, level: int) -> tuple[int, int]:
        """A VM that lives, mostly, and an address that one of its tables of `level` covers."""
        for _ in range(3):
            table = self._frame(f"table {level}")
            if table is None:
                break
            record = self._record(table)
            vm = record.vm
            assert isinstance(vm, int)
            if self.word(vm, VmWord.STATE) in ALIVE:
                span = PAGE if level == 3 else BLOCK
                return vm, self._base_of(record) + span * self.random.choice((0, 1, 2, 3, 4, 5, 511))
        slot = self._slot(*ALIVE)
        return SLOTS[0] if slot is None else slot, self.random.choice(IPAS)

    def _anywhere(self) -> tuple[int, int]:
        """A VM and the address of a page, or of a place in a block, that it has or might have."""
        chance = self.random.random()
        if chance < 0.4 and (page := self._page(self.random.choice(CLASSES[1:4]))) is not None:
            return page
        if chance < 0.7 and (block := self.ghost.index.blocks[Kind.VM_PAGE].any(self.random)) is not None:
            record = self.ghost.state.block[block]
            vm, slot = record.vm, record.slot
            assert isinstance(vm, int) and isinstance(slot, int)
            return vm, self._base_of(self.ghost.state.frame[record.parent]) | slot << 21 | self.random.choice(
                (0, PAGE)
            )
        if chance < 0.85:
            return self._place(2 if chance < 0.8 else 3)
        running = self._slot(VmState.ACTIVE)
        return (SLOTS[0], RAM) if running is None else (running, self._in_ram(running))

    def _in_ram(self, vm: int) -> int:
        """An address in a VM's RAM."""
        ranges = [
            (self.word(vm, VmWord.RAM + 2 * number), self.word(vm, VmWord.RAM + 2 * number + 1))
            for number in range(4)
        ]
        inside = [ipa for ipa in IPAS if any(base <= ipa < base + size for base, size in ranges)]
        return self.random.choice(inside or IPAS)

    def _page(self, *names: str) -> tuple[int, int] | None:
        """VM and address of a page of one of these classes."""
        frame = self._frame(*names)
        if frame is None:
            return None
        record = self._record(frame)
        vm, slot = record.vm, record.slot
        assert isinstance(vm, int) and isinstance(slot, int)
        return vm, self._base_of(self.ghost.state.frame[record.parent]) | slot << 12

    # Arguments with which a call should succeed

    def _vm_create(self) -> dict[str, int] | None:
        slot, root = self._slot(VmState.FREE), self._frame("host")
        if slot is None or root is None:
            return None
        names = [name for name in ARGUMENTS["vm_create"] if name.startswith("ram")]
        ranges = dict(
            zip(names, self.random.choice(RANGES if self.random.random() < 0.9 else NEARLY), strict=True)
        )
        vcpus = self.random.choice((1, 1, 2, 8, 8))
        return {"vm": slot, "root": root, "vcpus": vcpus, "flags": 0, **ranges}

    def _table_donate(self) -> dict[str, int] | None:
        slot, table = self._slot(*ALIVE), self._frame("host")
        if slot is None or table is None:
            return None
        ipa, level = self._in_ram(slot), self.random.choice((2, 3))
        if level == 3 and self.random.random() < 0.7:
            slot, ipa = self._place(2)
        return {"vm": slot, "ipa": ipa, "level": level, "table": table}

    def _map(self) -> dict[str, int] | None:
        (vm, ipa), frame = self._place(3), self._frame("host")
        return (
            None
            if frame is None
            else {"vm": vm, "ipa": ipa, "frame": frame, "mode": self.random.choice((0, 1))}
        )

    def _map_block(self) -> dict[str, int] | None:
        vm, ipa = self._place(2)
        many = len(self.ghost.index.blocks[Kind.UNCLEARED]) > 1
        block = self.block(*((Kind.HOST, Kind.UNCLEARED) if many else (Kind.HOST,)))
        return None if block is None else {"vm": vm, "ipa": ipa & -BLOCK, "block": block}

    def _vcpu_create(self) -> dict[str, int] | None:
        slot, frame = self._slot(VmState.BUILDING), self._frame("host")
        if slot is None or frame is None:
            return None
        count = self.word(slot, VmWord.VCPU_COUNT)
        missing = [index for index in range(count) if not self.word(slot, VmWord.VCPU + index)]
        index = missing[0] if missing and self.random.random() < 0.8 else self.random.randrange(max(count, 1))
        return {"vm": slot, "index": index, "frame": frame}

    def _vcpu_set_entry(self) -> dict[str, int] | None:
        slot = self._slot(VmState.BUILDING)
        first = 0 if slot is None else self.word(slot, VmWord.VCPU)
        vcpu = self.address(first - 1) if first else self._frame("vcpu off", "vcpu")
        if vcpu is None:
            return None
        return {
            "vcpu": vcpu,
            "entry": self.random.choice((*IPAS, RAM + 4)),
            "context": self.random.getrandbits(64),
        }

    def _activate(self) -> dict[str, int] | None:
        return self._vm(VmState.BUILDING)

    def _vm_kill(self) -> dict[str, int] | None:
        return self._vm(*ALIVE)

    def _vm_destroy(self) -> dict[str, int] | None:
        return self._vm(VmState.DYING)

    def _vm(self, *states: VmState) -> dict[str, int] | None:
        slot = self._slot(*states)
        return None if slot is None else {"vm": slot}

    def _reclaim(self) -> dict[str, int] | None:
        for _ in range(3):
            frame = self._frame(*CLASSES[1:4], *CLASSES[7:10])
            if frame is None or self._is_dying(self._record(frame)):
                break
        return None if frame is None else {"frame": frame}

    def _is_dying(self, record: Record) -> bool:
        vm = record.vm
        assert isinstance(vm, int)
        return self.word(vm, VmWord.STATE) == VmState.DYING

    def _table_reclaim(self) -> dict[str, int] | None:
        table = self._frame("table 3", "table 2")
        return None if table is None else {"table": table}

    def _host_split(self) -> dict[str, int] | None:
        block, table = self.block(Kind.HOST), self._frame("host")
        return None if block is None or table is None else {"block": block, "table": table}

    def _vm_split(self) -> dict[str, int] | None:
        block, table, host_table = self.block(Kind.VM_PAGE), self._frame("host"), self._frame("host")
        if block is None or table is None or host_table is None:
            return None
        return {"block": block, "table": table, "host_table": host_table}

    def is_much_split(self) -> bool:
        """Whether no further block should be split on this machine."""
        return len(self.ghost.index.blocks[Kind.SPLIT]) >= SPLITS

    def _reclaim_block(self) -> dict[str, int] | None:
        block = self.block(Kind.VM_PAGE)
        return None if block is None else {"block": block}

    def _dma_allow(self) -> dict[str, int] | None:
        block = self.block(Kind.HOST)
        return None if block is None else {"block": block}

    def _dma_revoke(self) -> dict[str, int] | None:
        block = self.block(Kind.DMA)
        return None if block is None else {"block": block}

    def _first_touch(self) -> dict[str, int] | None:
        untouched = self.ghost.index.blocks[Kind.UNCLEARED]
        if len(untouched) < 2 and self.random.random() < 0.9:
            return None
        block = self.block(Kind.UNCLEARED)
        return None if block is None else {"block": block}

    def _share_accept(self) -> dict[str, int] | None:
        page = self._page("offered page")
        return None if page is None else {"vm": page[0], "ipa": page[1]}

    def _share_release(self) -> dict[str, int] | None:
        page = self._page("accepted page")
        return None if page is None else {"vm": page[0], "ipa": page[1]}

    def _share(self) -> dict[str, int] | None:
        return self._own_page("private page")

    def _unshare(self) -> dict[str, int] | None:
        return self._own_page("offered page", "accepted page")

    def _relinquish(self) -> dict[str, int] | None:
        return self._own_page("private page", "offered page", "accepted page")

    def _own_page(self, *names: str) -> dict[str, int] | None:
        """A page of a VM that makes calls."""
        for _ in range(3):
            page = self._page(*names)
            if page is None:
                break
            if self.word(page[0], VmWord.STATE) == VmState.ACTIVE:
                return {"vm": page[0], "ipa": page[1]}
        return None

    def _vcpu_run(self) -> dict[str, int] | None:
        vcpu = self._frame("vcpu", "vcpu", "vcpu off")
        return None if vcpu is None else {"vcpu": vcpu}


NAMES = (*(name for name in ARGUMENTS if name not in (*VM_CALLS, FIRST_TOUCH)), FIRST_TOUCH, *VM_CALLS, *RUNS)
"""All that can be proposed by name."""
