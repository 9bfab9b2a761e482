"""A machine under a host that tries everything, from its boot on until everything is given back.

Trust label: TOOL. Every step is judged by the specification, which is also asked which step to take (`aim`). Needed of
a machine is a `Judge`: the booted engine with raw memory (`booted`), or as the host alone sees it (`blind`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from random import Random
from typing import Protocol

from bulkhead.conformance.backends import caller
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.sequences.aim import RANGES, SLOTS, Aim, number
from bulkhead.conformance.sequences.guide_turns import Turns
from bulkhead.conformance.testing.builder import RAM
from bulkhead.conformance.testing.machine import Machine
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Outcome, State, pairs
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import Kind, VmState, VmWord

CALLERS = (8, 9, 10)
"""VM slots for VMs that make calls."""
SPLITS = 6
"""Most blocks of a machine that are split, the one that boot splits among them."""
UNTOUCHED = 6
"""Blocks that nobody touches, for calls that must refuse them."""
SUBJECTS = (11, 12)
"""VM slots for VMs whose instructions trap."""
TURNS, TURNS_EVERY = 8, 16
"""Turns of vCPUs, or calls beside ownership, one after the other, and other steps between such."""
BUSY_EVERY = 400
"""Steps from one VM that is killed while its vCPU is loaded to the next."""


class Judge(Protocol):
    """Takes steps on a machine and compares each with the specification; AssertionError says what differs."""

    machine: Machine

    @property
    def state(self) -> State:
        """As specified."""
        ...

    @property
    def programs(self) -> Collection[int]:
        """Addresses of the blocks that the host program needs."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """The host fills a frame of its own."""
        ...

    def step(self, name: str, *, cpu: int = 0, **arguments: int) -> object:
        """A call of the host."""
        ...

    def vm_step(self, name: str, vm: int, x1: int, x2: int = 0, x3: int = 0, *, cpu: int = 0) -> object:
        """A call of vCPU 0 of a VM whose program is that of `caller`."""
        ...

    def first_touch(self, block: int, *, cpu: int = 0) -> None:
        """The first access to the block at physical `block`."""
        ...

    def load(self, vcpu: int, cpu: int) -> None:
        """The vCPU with its context at physical `vcpu` is loaded on a CPU, and stays there."""
        ...

    def unload(self, vcpu: int, cpu: int) -> None:
        """The vCPU that `load` has loaded is unloaded."""
        ...

    def check(self) -> None:
        """Everything is compared."""
        ...


class Trial:
    """One machine from its boot on. `steps` counts what was judged, `successes` those that succeeded."""

    def __init__(self, judge: Judge, aim: Aim, random: Random, turns: Turns | None = None) -> None:
        """`turns` are those of vCPUs, where the judge can follow them."""
        self.judge, self.aim, self.random, self.turns = judge, aim, random, turns
        self.machine = judge.machine
        self.steps = self.successes = 0
        self._programs = judge.programs
        self._busy_at = BUSY_EVERY // 2
        self._turns_at = self._vm_splits = 0
        aim.forget()

    @property
    def state(self) -> State:
        """As specified."""
        return self.judge.state

    def run(self, steps: int) -> None:
        """Takes that many steps, then gives everything back. AssertionError says what differs."""
        __tracebackhide__ = True
        while self.steps < steps:
            callers = [slot for slot in CALLERS if self._life(slot) == VmState.ACTIVE]
            if not callers and (slot := self._free_slot()) is not None:
                self._start(slot, RANGES[3], [caller.program(RAM)])
            elif callers and self.steps > self._busy_at:
                self._busy_at = self.steps + BUSY_EVERY
                self._kill_while_loaded(callers[0])
            elif self.turns and self.steps > self._turns_at:
                self._turns(self.turns)
                self._turns_at = self.steps + TURNS_EVERY
            else:
                name, arguments = self.aim.next(self.state, callers, self._allowed)
                if name == "map" and arguments["mode"] == 1:
                    self._fill(arguments["frame"])
                self.step(name, arguments)
        self.take_apart()
        self.judge.check()

    def step(self, name: str, arguments: dict[str, int]) -> None:
        """One step on any CPU, judged and counted."""
        __tracebackhide__ = True
        cpu, before = self.random.randrange(self.machine.layout.cpus), self.state
        predicted = (CALLS | STEPS)[name](before, **arguments)
        if name == "first_touch":
            self.judge.first_touch(self.machine.layout.ram_base + arguments["block"] * BLOCK, cpu=cpu)
        elif name in STEPS:
            self.judge.vm_step(name, *arguments.values(), cpu=cpu)
        else:
            self.judge.step(name, cpu=cpu, **arguments)
        self.steps += 1
        self.aim.counts[pairs.of(name, predicted)] += 1
        if predicted.success is True:
            self.successes += 1
            self._vm_splits += name == "vm_split"
            self.aim.changed()

    def _allowed(self, name: str, arguments: dict[str, int], outcome: Outcome) -> bool:
        """Whether the machine can go on after a step: not without the host program, or a VM that makes calls."""
        if outcome.success is not True:
            return name != "first_touch"
        kind = self._kind_of(arguments["block"]) if "block" in arguments and name != "first_touch" else None
        if name == "vm_split":
            return not self._vm_splits
        if name == "host_split":
            return self._count(Kind.SPLIT) < SPLITS and arguments["block"] not in self._programs
        if name == "first_touch" or kind == Kind.UNCLEARED:
            return self._count(Kind.UNCLEARED) > UNTOUCHED
        if kind == Kind.HOST:
            return arguments["block"] not in self._programs
        if name == "vm_create":
            return arguments["vm"] in SLOTS
        if name == "vm_kill":
            return arguments["vm"] not in (*CALLERS, *SUBJECTS) or self.random.random() < 0.05
        return not (name == "relinquish" and arguments["ipa"] == RAM)

    def _life(self, slot: int) -> int:
        return number(self.state.vm_word(slot, VmWord.STATE))

    def _kind_of(self, block: int) -> int:
        return number(self.state.block[(block - self.machine.layout.ram_base) // BLOCK].kind)

    def _count(self, kind: Kind) -> int:
        return [number(self.state.block[n].kind) for n in range(self.machine.layout.blocks)].count(kind)

    def _free_slot(self) -> int | None:
        return next((slot for slot in CALLERS if self._life(slot) == VmState.FREE), None)

    def _free_frames(self) -> Iterator[int]:
        return (
            self.machine.address(frame)
            for frame in self._frames_of_split_blocks()
            if self.state.frame[frame].kind == Kind.HOST
        )

    def _frames_of_split_blocks(self) -> Iterator[int]:
        for block in range(self.machine.layout.blocks):
            if self.state.block[block].kind == Kind.SPLIT:
                yield from range(block << 9, (block + 1) << 9)

    def _fill(self, address: int) -> None:
        """The host fills a frame of its own, which may be measured next."""
        frame = self.machine.index(address)
        own = 0 <= frame < self.machine.layout.frames and self.state.block[frame >> 9].kind == Kind.SPLIT
        if own and address % PAGE == 0 and self.state.frame[frame].kind == Kind.HOST:
            self.judge.write(address, self.random.randbytes(PAGE))

    def _start(self, slot: int, ranges: Sequence[int], pages: Sequence[bytes], vcpus: int = 1) -> None:
        """A VM with these pages at RAM, where its vCPU 0 starts, built step by step."""
        free = self._free_frames()
        named = dict(zip(ARGUMENTS["vm_create"][4:], ranges, strict=True))
        self.step("vm_create", {"vm": slot, "root": next(free), "vcpus": vcpus, "flags": 0, **named})
        for level in (2, 3):
            self.step("table_donate", {"vm": slot, "ipa": RAM, "level": level, "table": next(free)})
        for position, content in enumerate(pages):
            page = next(free)
            self.judge.write(page, content)
            self.step("map", {"vm": slot, "ipa": RAM + position * PAGE, "frame": page, "mode": 1})
        contexts = [next(free) for _ in range(vcpus)]
        for index, context in enumerate(contexts):
            self.step("vcpu_create", {"vm": slot, "index": index, "frame": context})
        self.step("vcpu_set_entry", {"vcpu": contexts[0], "entry": RAM, "context": 0})
        self.step("activate", {"vm": slot})

    def _turns(self, turns: Turns) -> None:
        """Several, of a VM that is started if there is none; then no vCPU is loaded."""
        __tracebackhide__ = True
        subject = next((slot for slot in SUBJECTS if self._life(slot) == VmState.ACTIVE), None)
        if subject is None:
            subject = next(slot for slot in SUBJECTS if self._life(slot) == VmState.FREE)
            self._start(subject, turns.RANGES, turns.pages, turns.VCPUS)
        for name, arguments in turns.preparations(subject, self._free_frames()):
            self.step(name, arguments)
        for _ in range(TURNS):
            if self._life(subject) == VmState.ACTIVE:
                self._took(turns.next(subject))
        for shown in turns.rest():
            self._took(shown)
        if self._life(subject) == VmState.DYING:
            self._take_apart([subject])

    def _took(self, shown: Sequence[Pair]) -> None:
        """A step that showed these pairs is counted; without any there was none."""
        self.steps += bool(shown)
        self.aim.counts.update(shown)
        self.successes += any(pair.is_success for pair in shown)
        self.aim.changed()

    def _kill_while_loaded(self, slot: int) -> None:
        """Its vCPU cannot be reclaimed before it is unloaded."""
        context = self.machine.address(number(self.state.vm_word(slot, VmWord.VCPU)) - 1)
        cpu = self.random.randrange(self.machine.layout.cpus)
        self.judge.load(context, cpu)
        self.step("vm_kill", {"vm": slot})
        self.step("reclaim", {"frame": context})
        self.judge.unload(context, cpu)

    def take_apart(self) -> None:
        """Everything goes back to the host."""
        for n in range(self.machine.layout.blocks):
            if self.state.block[n].kind == Kind.DMA:
                self.step("dma_revoke", {"block": self.machine.layout.ram_base + n * BLOCK})
        self._take_apart([slot for slot in range(64) if self._life(slot) != VmState.FREE])

    def _take_apart(self, slots: Collection[int]) -> None:
        """These VMs go."""
        state = self.state
        for slot in slots:
            if self._life(slot) != VmState.DYING:
                self.step("vm_kill", {"vm": slot})
        for n in range(self.machine.layout.blocks):
            if state.block[n].kind == Kind.VM_PAGE and state.block[n].vm in slots:
                self.step("reclaim_block", {"block": self.machine.layout.ram_base + n * BLOCK})
        frames = [(frame, state.frame[frame]) for frame in self._frames_of_split_blocks()]
        own = [(frame, record) for frame, record in frames if record.vm in slots]
        for frame, record in own:
            if record.kind in (Kind.VM_PAGE, Kind.VCPU):
                self.step("reclaim", {"frame": self.machine.address(frame)})
        for level in (3, 2):
            for frame, record in own:
                if record.kind == Kind.VM_TABLE and record.level == level:
                    self.step("table_reclaim", {"table": self.machine.address(frame)})
        for slot in slots:
            self.step("vm_destroy", {"vm": slot})
