"""Chooses the next step by asking the specification what each of many would do: one that shows what was seen least.

Trust label: TOOL. Candidates are drawn by the names of their arguments, from what there is in the specified state. Half
of the time a step is wanted that succeeds, so that states are rich; else the pair that was seen least so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Outcome, State, pairs
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import VM_SLOTS, Kind, Record, VmState, VmWord
from bulkhead.spec.words import Word

Value = TypeVar("Value")
MASK = (1 << 64) - 1
GIB = 1 << 30
RAM = GIB
SLOTS = (0, 1, 2, 3, 63)
"""VM slots in use; few, so that steps meet."""
CANDIDATES = 40
"""Steps that are tried on the specification before one is taken."""
ATTEMPTS = 3
"""Kinds of steps that are tried for a success."""
CHANGES = 6
"""Steps that change the state before it is looked through again."""
RANGES = (
    (RAM, 16 << 20, 0, 0, 0, 0, 0, 0),
    (0, PAGE, RAM, 8 << 20, (1 << 39) - BLOCK, BLOCK, 0, 0),
    (0, 1 << 39, 0, 0, 0, 0, 0, 0),
    (RAM, 8 << 20, RAM + GIB, PAGE, RAM + 2 * GIB, PAGE, (1 << 39) - PAGE, PAGE),
)
"""RAM ranges that vm_create accepts, base and size in turn."""
PLACES = (RAM, RAM + BLOCK, RAM + 2 * BLOCK, RAM + 3 * BLOCK, RAM + GIB, RAM + 2 * GIB, 0, (1 << 39) - BLOCK)
"""First addresses of level 3 tables and blocks of VMs."""
ODD = (0, 1, 7, PAGE - 1, PAGE + 8, 1 << 38, 1 << 39, 1 << 48, 1 << 63, MASK, MASK & -PAGE)
"""Numbers that are seldom right."""
WEIGHTS = {
    "vm_create": 3, "table_donate": 6, "map": 6, "vcpu_create": 14, "vcpu_set_entry": 3, "activate": 2, "vm_kill": 1,
    "reclaim": 12, "table_reclaim": 7, "vm_destroy": 4, "host_split": 1, "map_block": 3, "vm_split": 1,
    "reclaim_block": 3, "share_accept": 4, "share_release": 3, "dma_allow": 2, "dma_revoke": 2, "share": 6,
    "unshare": 3, "relinquish": 2, "first_touch": 1,
}  # fmt: skip
"""How often a step is wanted to succeed; 1 for others."""
OF_VMS = ("frame", "table", "vcpu")
"""Arguments that are frames of VMs, in the calls that take them back."""
TAKES_BACK = ("reclaim", "table_reclaim", "vcpu_set_entry")


def number(word: Word) -> int:
    """A word of a state of integers."""
    assert isinstance(word, int)
    return word


@dataclass
class Inventory:
    """What there is: addresses of blocks and frames by kind, and places of VMs with something in them."""

    blocks: dict[Kind, list[int]]
    free: list[int]
    given: list[int]
    places: list[tuple[int, int]]
    shared: list[tuple[int, int]]
    building: list[int]

    @classmethod
    def take(cls, state: State) -> Inventory:
        """Of a state of integers."""
        base = number(state.config.ram_base)
        blocks: dict[Kind, list[int]] = {kind: [] for kind in Kind}
        free: list[int] = []
        given: list[int] = []
        places: list[tuple[int, int]] = []
        shared: list[tuple[int, int]] = []
        for block in range(number(state.config.frames) >> 9):
            record = state.block[block]
            blocks[Kind(number(record.kind))].append(base + block * BLOCK)
            if record.kind == Kind.VM_PAGE:
                places.append((number(record.vm), ipa_of(state, record, 2)))
            for frame in range(block << 9, (block + 1) << 9) if record.kind == Kind.SPLIT else ():
                own = state.frame[frame]
                if own.kind == Kind.HOST:
                    free.append(base + frame * PAGE)
                    continue
                given.append(base + frame * PAGE)
                if own.kind == Kind.VM_PAGE:
                    (shared if own.shared else places).append((number(own.vm), ipa_of(state, own, 3)))
                elif own.kind == Kind.VM_TABLE and number(own.level) > 1:
                    places.append((number(own.vm), ipa_of(state, own, number(own.level) - 1)))
        building = [vm for vm in range(VM_SLOTS) if state.vm_word(vm, VmWord.STATE) == VmState.BUILDING]
        return cls(blocks, free, given, places, shared, building)


def ipa_of(state: State, record: Record, level: int) -> int:
    """Where a VM sees what is entered in a table of `level` (a table: the first address that it covers)."""
    ipa = 0
    while True:
        ipa |= number(record.slot) << 12 + 9 * (3 - level)
        if level == 1:
            return ipa
        record, level = state.frame[record.parent], level - 1


@dataclass
class Draw:
    """Arguments for one step, by their names."""

    state: State
    has: Inventory
    random: Random
    callers: Sequence[int]
    step: str = ""
    _place: tuple[int, int] | None = None

    def arguments(self, step: str) -> dict[str, int]:
        """Of a call or step; mostly sensible ones."""
        self.step, self._place = step, None
        names = ARGUMENTS[step]
        if "ipa" in names and self.random.random() < 0.7:
            self._place = self.one(self.one((self.has.shared, self.has.places)) or [(0, RAM)])
        drawn = {name: self._of(name) for name in names}
        if step == "vm_create":
            drawn |= zip(names[4:], self.one(RANGES), strict=True)
        if self.random.random() < 0.25:
            drawn[self.one(names)] = self._odd()
        if step in STEPS:
            drawn |= self._own(drawn)
        return drawn

    def one(self, things: Sequence[Value]) -> Value:
        """Any of them."""
        return things[int(self.random.random() * len(things))]

    def _own(self, drawn: dict[str, int]) -> dict[str, int]:
        """What only some can do: VMs that make calls, blocks that are touched."""
        if self.step == "first_touch":
            block = self.one(self.has.blocks[Kind.UNCLEARED] or [number(self.state.config.ram_base)])
            return {"block": (block - number(self.state.config.ram_base)) // BLOCK}
        caller = self.one(self.callers)
        mine = [ipa for vm, ipa in (*self.has.places, *self.has.shared) if vm == caller]
        return {"vm": caller, **({"ipa": self.one(mine)} if mine and self.random.random() < 0.6 else {})}

    def _of(self, name: str) -> int:
        kinds: dict[str, Callable[[], int]] = {
            "vm": self._vm, "ipa": self._ipa, "block": self._block, "root": self._frame, "table": self._frame,
            "host_table": self._frame, "frame": self._frame, "vcpu": self._frame,
            "level": lambda: self.one((2, 3)), "mode": lambda: self.one((0, 1)), "index": self._index,
            "vcpus": lambda: self.one((1, 2, 8, 8)), "entry": lambda: self.one((RAM, RAM + 4, RAM + PAGE)),
            "context": lambda: self.random.getrandbits(64),
        }  # fmt: skip
        return kinds[name]() if name in kinds else 0

    def _vm(self) -> int:
        if self.step == "vm_create":
            return self.one((*SLOTS, self.random.randrange(64)))
        if "index" in ARGUMENTS[self.step] and self.has.building and self.random.random() < 0.8:
            return self.has.building[-1]
        return self._place[0] if self._place else self.one((*SLOTS, *self.callers, *self.callers))

    def _ipa(self) -> int:
        if self.step == "map_block":
            return self.one(PLACES)
        ipa = self._place[1] if self._place else self.one(PLACES)
        return ipa + PAGE * self.one((0, 0, 0, 1, 2, 3))

    def _index(self) -> int:
        """Of a vCPU: often the first that some VM lacks."""
        vm = self._vm()
        lacking = [n for n in range(8) if self.state.vm_word(vm, VmWord.VCPU + n) == 0]
        return self.one((*lacking[:1] * 8, *lacking, 0))

    def _frame(self) -> int:
        free, given = self.has.free[:16] or [0], self.has.given or [0]
        likely, other = (given, free) if self.step in TAKES_BACK else (free, given)
        kind = self.random.random()
        return self.one(likely) if kind < 0.75 else self.one(other) if kind < 0.87 else self._odd()

    def _block(self) -> int:
        found = [blocks for blocks in self.has.blocks.values() if blocks]
        return self.one(self.one(found)[-4:])

    def _odd(self) -> int:
        some = [blocks[-1] for blocks in self.has.blocks.values() if blocks]
        return self.one((*ODD, *some, *some, self.one(self.has.given or [0]), self._block() + PAGE))


@dataclass
class Aim:
    """Counts what was seen, and chooses what comes. `wanted` are the pairs that can be had here."""

    random: Random
    wanted: Collection[Pair]
    counts: Counter[Pair] = field(default_factory=Counter)
    _inventory: Inventory | None = None
    _changes: int = 0

    def changed(self) -> None:
        """The state has changed. What there is need not be known exactly: the specification is asked anyway."""
        self._changes += 1
        if self._changes >= CHANGES:
            self.forget()

    def forget(self) -> None:
        """Another machine comes."""
        self._inventory, self._changes = None, 0

    def next(
        self, state: State, callers: Sequence[int], allowed: Callable[[str, dict[str, int], Outcome], bool]
    ) -> tuple[str, dict[str, int]]:
        """A step, with its arguments by name. `callers` are the VMs that can take steps themselves."""
        steps = [step for step in (*CALLS, *STEPS) if callers or step in CALLS]
        if self._inventory is None:
            self._inventory = Inventory.take(state)
        draw = Draw(state, self._inventory, self.random, callers)
        best: tuple[int, str, dict[str, int]] | None = None
        target, attempts = self._target(steps), 0
        while best is None or attempts <= ATTEMPTS:
            step = target.step if target else self._step(steps)
            for _ in range(CANDIDATES):
                arguments = draw.arguments(step)
                outcome = (CALLS | STEPS)[step](state, **arguments)
                if not allowed(step, arguments, outcome):
                    continue
                pair = pairs.of(step, outcome)
                if pair == target or (target is None and outcome.success is True):
                    return step, arguments
                if best is None or self.counts[pair] < best[0]:
                    best = self.counts[pair], step, arguments
            target, attempts = None, attempts + 1
        return best[1:]

    def _target(self, steps: Collection[str]) -> Pair | None:
        """One of the pairs seen least, or None: any success."""
        if self.random.random() < 0.45:
            return None
        rare = sorted(
            (self.counts[pair], self.random.random(), pair) for pair in self.wanted if pair.step in steps
        )
        return rare[int(self.random.random() * min(8, len(rare)))][2]

    def _step(self, steps: Sequence[str]) -> str:
        return self.random.choices(steps, [WEIGHTS.get(step, 1) for step in steps])[0]
