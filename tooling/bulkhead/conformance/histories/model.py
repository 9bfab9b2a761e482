"""What each step of a program may do, as atomic steps of the specification. Trust label: TOOL.

A call under the ownership lock is one atomic step, so is an access of the host; `vcpu_run` is several (`entry`).
Between them others' steps may come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bulkhead.conformance.oracle.oracle import branch, number
from bulkhead.spec import CALLS, STEPS, Outcome, State, stage2
from bulkhead.spec.state import Kind, Shared

from .entry import Entry, unloaded
from .guest import Guest, calls_of
from .program import ACCESSES, Event
from .world import Rest, Taken, Unlike, World

NEVER_LOCKED = ("vcpu_run", "vcpu_put")
"""Calls that do not take the ownership lock."""


def begin(event: Event, counter: int) -> Rest:
    """The first atomic step of an event. `counter` is what the system counter reads in an `activate`."""
    if event.step.name == "vcpu_run":
        return Entry(event).look
    if event.step.name == "vcpu_put":
        return lambda world: Taken(unloaded(world, event.step.cpu))
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
    after = world.then(outcome.state)
    if event.step.name == "vcpu_set_entry" and outcome.success is True:
        frame = (event.step.arguments["vcpu"] - number(world.state.config.ram_base)) >> stage2.FRAME_SHIFT
        return after.with_guest(frame, Guest(calls_of(event.step.arguments["context"])))
    return after


def _answer(outcome: Outcome) -> tuple[int, int, tuple[int, ...]]:
    return number(outcome.status), number(outcome.detail), tuple(map(number, outcome.results))


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
