"""The judge of histories, on histories made up here: what is explained, what is not, and how that is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bulkhead.conformance.histories import story
from bulkhead.conformance.histories.program import Event, Program, Step, decode, encode
from bulkhead.conformance.histories.search import Explanation, Search, Unexplained
from bulkhead.conformance.histories.world import World
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.errors import InvalidInput
from bulkhead.spec import CALLS, Config, State, plain
from bulkhead.spec.state import Kind, Run

BASE = 0x8000_0000
RAM = 0x4000_0000
FRAME = BASE + 0x9000
VCPU = BASE + 0x6000
STATUS = {line.name: line.value & MASK for line in ABI.statuses}


def done(state: State, name: str, **arguments: int) -> State:
    """The state behind a call that succeeds."""
    outcome = CALLS[name](state, **arguments)
    assert outcome.success is True, outcome.needs[-1]
    return outcome.state


def scene() -> World:
    """VM 0 is active, with tables, a page at RAM and a vCPU."""
    split = {frame: int(Kind.HOST) for frame in range(1, 512)} | {0: int(Kind.HOST_TABLE)}
    state = plain.from_words(
        Config(BASE, 1024, cpus=2),
        {0: Kind.SPLIT, 1: Kind.HOST},
        split,
        {0: BASE | 3, 1: BASE | 0x20_0000},
        {},
        {},
    )
    ranges = {f"ram{n}_{what}": 0 for n in range(4) for what in ("base", "size")}
    ranges |= {"ram0_base": RAM, "ram0_size": 1 << 21}
    state = done(state, "vm_create", vm=0, root=BASE + 0x2000, vcpus=1, flags=0, **ranges)
    for level in (2, 3):
        state = done(state, "table_donate", vm=0, ipa=RAM, level=level, table=BASE + 0x1000 * (level + 1))
    state = done(state, "map", vm=0, ipa=RAM, frame=BASE + 0x5000, mode=0)
    state = done(state, "vcpu_create", vm=0, index=0, frame=VCPU)
    state = done(state, "vcpu_set_entry", vcpu=VCPU, entry=RAM, context=0)
    return World(done(state, "activate", vm=0), (None, None))


def event(cpu: int, began: int, ended: int, answer: tuple[int, ...], name: str, **arguments: int) -> Event:
    """A call that was answered with x0, x1, ..."""
    step = Step(cpu, 1, name, arguments)
    return Event(step, (*answer, *step.sent[len(answer) :]), began, ended)


def explain(*history: Event, differences: Sequence[str] = ()) -> Explanation | Unexplained:
    """The verdict on a history that begins in the scene."""
    return Search(lambda _: differences, lambda _: 0).explain(list(history), scene())


def map_page(cpu: int, began: int, ended: int, answer: tuple[int, ...], slot: int = 1) -> Event:
    """The frame as a page of VM 0."""
    return event(cpu, began, ended, answer, "map", vm=0, ipa=RAM + 0x1000 * slot, frame=FRAME, mode=0)


SUCCESS, BUSY, BAD_STATE = (0,), (STATUS["BUSY"], 0), (STATUS["BAD_STATE"], 0)
NOT_OWNED = (STATUS["NOT_OWNED"], 3)


def test_one_of_two_gets_a_frame_whichever_began_first() -> None:
    first = explain(map_page(0, 0, 3, SUCCESS, 1), map_page(1, 1, 2, NOT_OWNED, 2))
    second = explain(map_page(0, 0, 3, NOT_OWNED, 1), map_page(1, 1, 2, SUCCESS, 2))
    assert isinstance(first, Explanation) and not first.reordered
    assert isinstance(second, Explanation) and second.reordered


def test_both_cannot_get_it() -> None:
    verdict = explain(map_page(0, 0, 3, SUCCESS, 1), map_page(1, 1, 2, SUCCESS, 2))
    assert isinstance(verdict, Unexplained)
    assert "NOT_OWNED(3)" in verdict.reasons[0]
    assert len(verdict.order) == 1


def test_what_is_over_cannot_come_later() -> None:
    kill = event(1, 0, 1, SUCCESS, "vm_kill", vm=0)
    assert isinstance(explain(kill, map_page(0, 2, 3, SUCCESS)), Unexplained)
    late = event(1, 0, 3, SUCCESS, "vm_kill", vm=0)
    assert isinstance(explain(late, map_page(0, 1, 2, SUCCESS)), Explanation)


def test_busy_needs_somebody_who_holds_the_lock() -> None:
    kill = event(1, 0, 2, SUCCESS, "vm_kill", vm=0)
    overlapping = explain(kill, map_page(0, 1, 3, BUSY))
    assert isinstance(overlapping, Explanation) and overlapping.busy == 1
    assert isinstance(explain(kill, map_page(0, 3, 4, BUSY)), Unexplained)
    others = event(1, 0, 2, SUCCESS, "vcpu_put"), event(1, 3, 5, BUSY, "vm_kill", vm=0)
    assert isinstance(explain(*others, map_page(0, 1, 4, BUSY)), Unexplained)


def test_memory_has_the_last_word() -> None:
    verdict = explain(map_page(0, 0, 1, SUCCESS), differences=["a word differs"])
    assert isinstance(verdict, Unexplained) and verdict.reasons == ("a word differs",)


def test_other_registers_stay() -> None:
    assert isinstance(explain(map_page(0, 0, 1, (0, 0, 0, 0, 0, 0, 0))), Unexplained)


def run_vcpu(cpu: int, began: int, ended: int, answer: tuple[int, ...]) -> Event:
    """A turn of the vCPU; it waits, or is refused."""
    return event(cpu, began, ended, answer, "vcpu_run", vcpu=VCPU)


WAITS = (0, 1, 0, 0, 0, 0, 0, 0, 0, MASK)
"""SUCCESS, class WFI, no data, empty list registers, no deadline."""


def test_a_vcpu_is_loaded_once() -> None:
    verdict = explain(run_vcpu(0, 0, 3, WAITS), run_vcpu(1, 1, 2, BUSY))
    assert isinstance(verdict, Explanation)
    assert verdict.world.loaded == (6, None)
    assert verdict.world.state.frame[6].parent == Run.LOADED
    assert isinstance(explain(run_vcpu(0, 0, 3, WAITS), run_vcpu(1, 1, 2, WAITS)), Unexplained)
    given_back = event(0, 2, 3, SUCCESS, "vcpu_put")
    assert isinstance(explain(run_vcpu(0, 0, 1, WAITS), given_back, run_vcpu(1, 4, 5, WAITS)), Explanation)


def test_a_vcpu_of_a_dead_vm_may_be_claimed_for_a_moment() -> None:
    """The claim comes between the check and the kill; `reclaim` may meet it."""
    kill = event(1, 1, 2, SUCCESS, "vm_kill", vm=0)
    reclaim = event(1, 3, 4, BUSY, "reclaim", frame=VCPU)
    assert isinstance(explain(run_vcpu(0, 0, 5, BAD_STATE), kill, reclaim), Explanation)
    assert isinstance(explain(kill, run_vcpu(0, 3, 4, WAITS)), Unexplained)


def test_host_accesses_are_steps_too() -> None:
    """A page of the VM is out of the host's reach; a store comes before the page is given away, or faults."""
    given = map_page(0, 0, 3, SUCCESS)
    fault = (0x9600_0010,)
    assert isinstance(explain(given, event(1, 1, 2, (0, 5), "store", address=FRAME, value=5)), Explanation)
    assert isinstance(explain(given, event(1, 4, 5, fault, "load", address=FRAME)), Explanation)
    assert isinstance(explain(given, event(1, 4, 5, (0, 0), "load", address=FRAME)), Unexplained)


def test_a_program_survives_the_link_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        Step(0, 0, "vm_kill", {"vm": 0}),
        Step(1, 1, "map", {"vm": 0, "ipa": RAM, "frame": FRAME, "mode": 0}, delay=7),
        Step(0, 1, "store", {"address": FRAME, "value": 5}),
    )
    assert len(encode(steps)) == 8 * (3 + 6 + 3)
    unchanged = (
        (3 | 4 << 20).to_bytes(8, "little") * 2 + (5 | 6 << 20 | 1 << 40).to_bytes(8, "little") + bytes(8)
    )
    history = decode(steps, unchanged)
    assert [(one.began, one.ended) for one in history] == [(3, 4), (3, 4), (5, 6)]
    assert history[2].reply.status == "SUCCESS"
    assert history[0].registers == steps[0].sent

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(story, "in_checkout", lambda: False)
    program = Program(steps, (BASE,), 2)
    told = story.tell(history, Unexplained((), ("a reason",)))
    assert "a reason" in told and "CPU 1 map(vm=0x0" in told
    path = story.save(program, told)
    assert story.load(path) == program
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="holds no program"):
        story.load(path)
