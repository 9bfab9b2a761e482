"""What each step of a program may do, as atomic steps of the specification. Trust label: TOOL.

A call under the ownership lock is one atomic step. `vcpu_run` takes no lock and is several: it reads the record, reads
the VM's state, claims by compare-and-swap, reads the state again, gives the vCPU back that was loaded before, and runs
the VM until it exits (`engine/docs/locking.md`). Between them others' steps may come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bulkhead.conformance.oracle import branch, number
from bulkhead.spec import CALLS, STEPS, Outcome, State, stage2
from bulkhead.spec.state import Kind, Record, Run, Shared, VmState, VmWord
from bulkhead.spec.transaction import EXIT

from .program import ACCESSES, Event

NEVER_LOCKED = ("vcpu_run", "vcpu_put")
"""Calls that do not take the ownership lock."""


@dataclass(frozen=True)
class World:
    """The specification's state, which frame's vCPU each CPU has loaded, and the world that this one came of."""

    state: State
    loaded: tuple[int | None, ...]
    before: World | None = None

    def then(self, state: State, loaded: tuple[int | None, ...] | None = None) -> World:
        """The world behind an atomic step."""
        return World(state, self.loaded if loaded is None else loaded, self)

    def with_record(self, frame: int, record: Record) -> World:
        """The same, but for the record of a frame."""
        state = replace(self.state, frame=self.state.frame.copy())
        state.frame.set(frame, record, True)
        return self.then(state)

    @property
    def path(self) -> list[State]:
        """All states up to this one, the first one first."""
        states: list[State] = []
        world: World | None = self
        while world is not None:
            states.append(world.state)
            world = world.before
        return states[::-1]


class Unlike(Exception):
    """A step answered, or goes on, otherwise than here."""


Rest = Callable[[World], "Taken"]
"""What is left of a step."""


@dataclass(frozen=True)
class Taken:
    """The world after an atomic step, and what is left to do, if anything."""

    world: World
    rest: Rest | None = None


def begin(event: Event, counter: int) -> Rest:
    """The first atomic step of an event. `counter` is what the system counter reads in an `activate`."""
    if event.step.name == "vcpu_run":
        return _Entry(event).look
    if event.step.name == "vcpu_put":
        return lambda world: Taken(_unloaded(world, event.step.cpu))
    if event.step.name in ACCESSES:
        return lambda world: Taken(_access(world, event))
    return lambda world: Taken(_call(world, event, counter))


def _access(world: World, event: Event) -> World:
    """A load or store by the host; its first touch of a block clears it."""
    word = (event.step.arguments["address"] - number(world.state.config.ram_base)) // 8
    touched = STEPS["first_touch"](world.state, block=word >> 2 * stage2.TABLE_SHIFT).state
    reaches = host_reaches(touched, word >> stage2.TABLE_SHIFT)
    if reaches != (event.reply.status == "SUCCESS"):
        raise Unlike(f"{event} ends with {event.reply}; specified is {'SUCCESS' if reaches else 'FAULT'}")
    if event.step.name == "load" and reaches and event.reply.results["value"] != touched.ram[word]:
        raise Unlike(f"{event} loads {event.reply.results['value']:#x}; specified is {touched.ram[word]:#x}")
    if event.step.name == "store" and reaches:
        state, touched = touched, replace(touched, ram=touched.ram.copy())
        touched.ram.set(word, event.step.arguments["value"], True)
        return world.then(state).then(touched)
    return world.then(touched)


def host_reaches(state: State, frame: int) -> bool:
    """Whether the host may access a frame."""
    kind = state.block[frame >> stage2.TABLE_SHIFT].kind
    if kind != Kind.SPLIT:
        return kind in (Kind.HOST, Kind.DMA)
    record = state.frame[frame]
    return bool(
        record.kind == Kind.HOST or (record.kind == Kind.VM_PAGE and record.shared == Shared.ACCEPTED)
    )


def _call(world: World, event: Event, counter: int) -> World:
    outcome = CALLS[event.step.name](replace(world.state, counter=counter), **event.step.arguments)
    reply = event.reply
    if (reply.regs[0], reply.detail, tuple(reply.results.values())) != _answer(outcome):
        raise Unlike(f"{event} answers {reply}; specified is {branch(outcome)}")
    return world.then(outcome.state)


def _answer(outcome: Outcome) -> tuple[int, int, tuple[int, ...]]:
    return number(outcome.status), number(outcome.detail), tuple(map(number, outcome.results))


def _unloaded(world: World, cpu: int) -> World:
    frame = world.loaded[cpu]
    if frame is None:
        return world
    record = world.state.frame[frame]
    loaded = (*world.loaded[:cpu], None, *world.loaded[cpu + 1 :])
    free = world.with_record(frame, record._replace(parent=Run.RUNNABLE))
    return free.then(free.state, loaded)


class _Entry:
    """A `vcpu_run`."""

    def __init__(self, event: Event) -> None:
        self.event, self.cpu = event, event.step.cpu

    def _must(self, answer: str) -> None:
        got = self.event.reply
        if answer != f"{got.status}({got.detail})" and answer != got.status:
            raise Unlike(f"{self.event} answers {got}; specified is {answer}")

    def _ends(self, answer: str, world: World) -> Taken:
        self._must(answer)
        return Taken(world)

    def look(self, world: World) -> Taken:
        """The record of the frame is read."""
        state = world.state
        frame = (self.event.step.arguments["vcpu"] - number(state.config.ram_base)) >> stage2.FRAME_SHIFT
        if world.loaded[self.cpu] == frame:
            return Taken(world, lambda world: self._again(world, frame))
        kind = state.block[frame >> stage2.TABLE_SHIFT].kind
        if kind != Kind.SPLIT:
            return self._ends({Kind.HOST: "NEEDS_SPLIT(1)", Kind.UNCLEARED: "NOT_CLEARED(1)"}.get(
                Kind(number(kind)), "NOT_OWNED(1)"), world)  # fmt: skip
        record = state.frame[frame]
        if record.kind != Kind.VCPU:
            return self._ends("NOT_OWNED(1)", world)
        return Taken(world, lambda world: self._consider(world, frame, record))

    def _again(self, world: World, frame: int) -> Taken:
        """It is loaded here already."""
        if not _is_active(world, world.state.frame[frame]):
            return self._ends("BAD_STATE", world)
        self._must("SUCCESS")
        return Taken(world, lambda world: self._run(world, frame))

    def _consider(self, world: World, frame: int, record: Record) -> Taken:
        if not _is_active(world, record) or record.parent == Run.OFF:
            return self._ends("BAD_STATE", world)
        if record.parent != Run.RUNNABLE:
            return self._ends("BUSY", world)
        return Taken(world, lambda world: self._claim(world, frame, record))

    def _claim(self, world: World, frame: int, record: Record) -> Taken:
        if world.state.frame[frame] != record:
            return self._ends("BUSY", world)
        if self.event.reply.status not in ("SUCCESS", "BAD_STATE"):
            raise Unlike(f"{self.event} answers {self.event.reply} after its claim")
        claimed = world.with_record(frame, record._replace(parent=Run.LOADED | self.cpu))
        return Taken(claimed, lambda world: self._confirm(world, frame, record))

    def _confirm(self, world: World, frame: int, record: Record) -> Taken:
        """A VM that was killed before the claim does not run."""
        if not _is_active(world, record):
            return self._ends("BAD_STATE", world.with_record(frame, record))
        self._must("SUCCESS")
        return Taken(world, lambda world: self._load(world, frame))

    def _load(self, world: World, frame: int) -> Taken:
        free = _unloaded(world, self.cpu)
        loaded = (*free.loaded[: self.cpu], frame, *free.loaded[self.cpu + 1 :])
        return Taken(free.then(free.state, loaded), lambda world: self._run(world, frame))

    def _run(self, world: World, frame: int) -> Taken:
        """The VM fetches its program, which waits; an interrupt may come at any time."""
        results = self.event.reply.results
        record = world.state.frame[frame]
        entry = self.event.step.arguments.get("entry", ENTRY)
        expected = ("WFI", 0) if _translates(world.state, number(record.vm), entry) else ("MEM_FAULT", entry)
        if results["class"] != EXIT["IRQ"] and (results["class"], results["data0"]) != (
            EXIT[expected[0]], expected[1],
        ):  # fmt: skip
            raise Unlike(f"{self.event} ends with class {results['class']}; specified is {expected[0]}")
        return Taken(world)


ENTRY = 0x4000_0000
"""Where the VMs of programs have theirs, one page that waits for ever."""


def _is_active(world: World, record: Record) -> bool:
    return number(world.state.vm_word(record.vm, VmWord.STATE)) == VmState.ACTIVE


def _translates(state: State, vm: int, ipa: int) -> bool:
    """Whether the VM's tables lead somewhere."""
    table = number(state.vm_word(vm, VmWord.ROOT))
    for level in (1, 2, 3):
        descriptor = number(state.ram[stage2.word(table, stage2.index(ipa, level))])
        if not descriptor & 1:
            return False
        if level == 2 and not descriptor & 2:
            return True
        table = number(stage2.target(state.config, descriptor))
    return True


def takes_lock(event: Event) -> bool:
    """Whether others may have found the lock taken by this event."""
    if event.step.name in NEVER_LOCKED:
        return event.reply.status == "SUCCESS" and event.step.name == "vcpu_run"  # the VM's faults take it
    return event.reply.status != "BUSY"


def lock_answers(history: list[Event]) -> Iterator[tuple[Event, list[Event]]]:
    """Each BUSY of a call that takes the lock, and the events that may have held it."""
    for event in history:
        if event.reply.status == "BUSY" and event.step.name not in NEVER_LOCKED:
            yield event, [other for other in history if takes_lock(other) and other.overlaps(event)]
