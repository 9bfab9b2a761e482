"""`vcpu_run` as atomic steps, between which others' may come. Trust label: TOOL.

It takes no lock: it reads the record, reads the VM's state, claims by compare-and-swap, reads the state again, gives
back the vCPU that was loaded before, and runs the VM until it exits (`engine/docs/locking.md`).
"""

from __future__ import annotations

from dataclasses import replace

from bulkhead.conformance.oracle.oracle import number
from bulkhead.conformance.testing.machine import ABI
from bulkhead.spec import STEPS, State, stage2
from bulkhead.spec.state import Kind, Record, Run, VmState, VmWord
from bulkhead.spec.transaction import EXIT

from .guest import ENTRY, Guest
from .program import Event
from .world import Taken, Unlike, World


def unloaded(world: World, cpu: int) -> World:
    frame = world.loaded[cpu]
    if frame is None:
        return world
    record = world.state.frame[frame]
    loaded = (*world.loaded[:cpu], None, *world.loaded[cpu + 1 :])
    free = world.with_record(frame, record._replace(parent=Run.RUNNABLE))
    return free.then(free.state, loaded)


class Entry:
    """A `vcpu_run`. Each method is an atomic step."""

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
        free = unloaded(world, self.cpu)
        loaded = (*free.loaded[: self.cpu], frame, *free.loaded[self.cpu + 1 :])
        return Taken(free.then(free.state, loaded), lambda world: self._run(world, frame))

    def _run(self, world: World, frame: int) -> Taken:
        """The VM goes on with its program until it exits; it fetches instructions through its tables."""
        kind, data = self._exit()
        guest = world.guests.get(frame, Guest())
        vm = number(world.state.frame[frame].vm)
        if not _translates(world.state, vm, ENTRY):
            return self._only(kind == "IRQ" or (kind, data[0]) == ("MEM_FAULT", ENTRY), "MEM_FAULT", world)
        if kind == "HOST_CALL" and data in guest.reports():
            return Taken(world.with_guest(frame, guest.done()))
        if guest.succeeded or not guest.left:
            wanted = "HOST_CALL" if guest.succeeded else "WFI"
            return self._only(kind == "IRQ" or (kind == wanted == "WFI" and data[0] == 0), wanted, world)
        return self._vm_call(world, frame, vm, guest)

    def _vm_call(self, world: World, frame: int, vm: int, guest: Guest) -> Taken:
        """It makes its next call, which the engine answers, or which it will repeat."""
        kind, data = self._exit()
        name, ipa = guest.left[0]
        outcome = STEPS[name](world.state, vm=vm, ipa=ipa, zero2=0, zero3=0)
        if outcome.success is True:
            after = world.then(outcome.state).with_guest(frame, replace(guest, succeeded=True))
            ends = (kind, data) == ("SHARE", (ABI.call(name).id, ipa))
            return Taken(world) if kind == "IRQ" else self._only(ends, f"SHARE of {name}({ipa:#x})", after)
        last = outcome.needs[-1]
        answer = number(last.answer), number(last.detail)
        if last.exits:
            ends = (kind, data[0]) == (last.status, answer[1])
            return self._only(kind == "IRQ" or ends, last.label, world)
        if kind == "IRQ":
            return Taken(world.with_guest(frame, guest.may_know(answer)))
        wanted = f"HOST_CALL, {name}({ipa:#x}) having been answered {last.label}"
        return self._only(
            (kind, data) == ("HOST_CALL", answer), wanted, world.with_guest(frame, guest.done())
        )

    def _exit(self) -> tuple[str, tuple[int, int]]:
        """Name of the exit class, and the first two of its data."""
        results = self.event.reply.results
        names = {value: name for name, value in EXIT.items()}
        return names.get(results["class"], "nothing"), (results["data0"], results["data1"])

    def _only(self, ends: bool, wanted: str, world: World) -> Taken:
        """The VM exits so."""
        if not ends:
            kind, data = self._exit()
            raise Unlike(f"{self.event} ends with {kind} {data[0]:#x} {data[1]:#x}; specified is {wanted}")
        return Taken(world)


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
