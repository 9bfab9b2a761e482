"""The specification as an oracle: every call and step of a machine must be the one that `bulkhead.spec` takes.

Trust label: TOOL. The state before a call is read from raw memory and handed to the specification; its answer, every
changed word and, on the host backend, every event in order must be the machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from typing import Any

from bulkhead.conformance.backend import BLOCK, PAGE, REGISTERS
from bulkhead.conformance.host import HostBackend, Next
from bulkhead.conformance.machine import ABI, Machine, Reply, describe, filler
from bulkhead.conformance.recorded import CONTEXT_PC, as_specified
from bulkhead.conformance.snapshot import WORD, Snapshot, unpack
from bulkhead.errors import InvalidInput
from bulkhead.inspect.records import VM_WORDS
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Config, Outcome, State, events, plain
from bulkhead.spec.state import Kind, Record, VmWord
from bulkhead.spec.transaction import EXIT
from bulkhead.spec.words import Word

Pieces = dict[int, bytes]
"""Raw words by the index of the first one."""
Words = Mapping[int, int]
DMA_WINDOWS = 1
"""Bit of `features`."""
# Most records are equal.
unpack_record = cache(plain.unpack)
pack_record = cache(plain.pack)


class Oracle:
    """Makes calls on a machine and compares each with the specification; AssertionError says what differs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.host = machine.backend if isinstance(machine.backend, HostBackend) else None
        self.has_dma = machine.ok("features").results["features"] & DMA_WINDOWS
        self.covered: set[tuple[str, str]] = set()
        """(call, SUCCESS or the number and answer of the condition that failed) seen so far."""
        self.conditions: dict[str, frozenset[str]] = {}
        """Call → the ways in which it can be refused, as in `covered`; known once it has succeeded."""
        self._present: Snapshot | None = None

    def forget(self) -> None:
        """The machine has changed otherwise than by `step`."""
        self._present = None

    def step(self, name: str, *, cpu: int = 0, **arguments: int) -> Reply:
        """One call that changes ownership."""
        __tracebackhide__ = True
        before = self._present or Snapshot.take(self.machine)
        if self.host:
            self.host.events()
        reply = self.machine.call(name, cpu=cpu, **arguments)
        after = self._present = Snapshot.take(self.machine)
        state = _with_counter(state_of(before, self.has_dma), after, name, arguments)
        expected = CALLS[name](state, **arguments)
        differences = [*_answer(reply, expected), *self._effects(before, after, expected)]
        assert not differences, "\n  ".join([describe(name, arguments, cpu), *differences])
        self._note(name, expected)
        return reply

    def vm_step(self, name: str, vm: int, x1: int, x2: int = 0, x3: int = 0, *, cpu: int = 0) -> Next:
        """One of the calls of vCPU 0 of a VM that change ownership. Host backend only."""
        __tracebackhide__ = True
        if self.host is None:
            raise InvalidInput("VM calls are made by guests, but on the host backend")
        before = self._present or Snapshot.take(self.machine)
        self.host.events()
        sent = (ABI.call(name).id, x1, x2, x3, *map(filler, range(4, REGISTERS)))
        registers, happens_next = self.host.vm_call(cpu, vm, sent)
        after = self._present = Snapshot.take(self.machine)
        arguments = dict(zip(ARGUMENTS[name], (vm, x1, x2, x3), strict=True))
        expected = STEPS[name](state_of(before, self.has_dma), **arguments)
        context = self.machine.vm_record(vm).vcpus[0] or 0
        advance = _program_counter(after, context) - _program_counter(before, context)
        differences = [
            *_vm_answer(sent, registers, happens_next, advance, expected),
            *self._effects(before, after, expected, ignored=range(context * 512, context * 512 + 512)),
        ]
        assert not differences, "\n  ".join([describe(name, arguments, cpu), *differences])
        self._note(name, expected)
        return happens_next

    def _effects(
        self, before: Snapshot, after: Snapshot, expected: Outcome, ignored: range = range(0)
    ) -> Iterator[str]:
        """Differences in memory, in whole blocks that are zeroed, and in the order of events."""
        yield from _memory(pieces(before), pieces(after), expected, ignored)
        for span in expected.state.ram.spans() if isinstance(expected.state.ram, plain.PlainMap) else ():
            first = self.machine.layout.ram_base + span.keys.start * WORD
            size = len(span.keys) * WORD
            if size == BLOCK and self.machine.physical(first, size).count(0) != size:
                yield f"block {first:#x} is not zero"
        if self.host:
            yield from _events(as_specified(self.host.events()), expected.happened)

    def _note(self, name: str, expected: Outcome) -> None:
        self.covered.add((name, branch(expected)))
        if expected.success is True:
            self.conditions[name] = frozenset(
                f"{number}. {need.label}" for number, need in enumerate(expected.needs, 1)
            )


def number(word: Word) -> int:
    """A word of the specification, which runs on integers here."""
    if not isinstance(word, int):
        raise TypeError("the oracle runs on plain integers")
    return word


def branch(expected: Outcome) -> str:
    """Which way through its conditions a call took."""
    if expected.success is True:
        return "SUCCESS"
    return f"{len(expected.needs)}. {expected.needs[-1].label}"


def pieces(snapshot: Snapshot) -> dict[str, Pieces]:
    """Raw words under the names of the specification's maps."""
    base = snapshot.layout.ram_base
    return {
        "block": {0: snapshot.blocks},
        "host_entry": {0: snapshot.host_level2},
        "dma_entry": {0: snapshot.dma_level2},
        "vm": {0: snapshot.vms},
        "frame": {(block - base) // PAGE: data for block, data in snapshot.records.items()},
        "ram": {(block - base) // WORD: data for block, data in snapshot.contents.items()},
    }


def state_of(snapshot: Snapshot, has_dma: int) -> State:
    """The specification's view of raw memory. Of RAM only split blocks are known; no call reads any other."""
    raw = pieces(snapshot)

    def words(name: str) -> dict[int, int]:
        return {
            first + n: word
            for first, data in raw[name].items()
            for n, word in enumerate(unpack(data))
            if word
        }

    layout = snapshot.layout
    config = Config(layout.ram_base, layout.frames, layout.cpus, has_dma)
    entries = words("host_entry"), words("dma_entry")
    host_entry, dma_entry = (plain.Sparse[Word](known, lambda _: 0) for known in entries)

    def records(name: str) -> plain.Sparse[Record]:
        known = {key: unpack_record(word) for key, word in words(name).items()}
        return plain.Sparse(known, lambda _: Record(Kind.ENGINE))

    return plain.from_grounds(
        config,
        block=records("block"),
        frame=records("frame"),
        ram=plain.Sparse[Word]({}, _reader(raw["ram"])),
        host_entry=host_entry,
        dma_entry=dma_entry,
        vm=plain.Sparse[Word](words("vm"), lambda _: 0),
    )


def _with_counter(state: State, after: Snapshot, name: str, arguments: Mapping[str, int]) -> State:
    """The state before the call; what the counter read during an `activate` is known only afterwards."""
    if name == "activate" and arguments["vm"] < len(after.vms) // (VM_WORDS * WORD):
        return replace(state, counter=unpack(after.vms)[arguments["vm"] * VM_WORDS + VmWord.COUNTER_OFFSET])
    return state


def _reader(ram: Pieces) -> Callable[[int], int]:
    def read(word: int) -> int:
        value = _word(ram, word)
        if value is None:
            raise AssertionError(f"the specification reads word {word:#x}, which is in no split block")
        return value

    return read


def _word(raw: Pieces, key: int) -> int | None:
    """The word of that index, if it is known."""
    per_block = BLOCK // WORD
    for first in (0, key - key % 512, key - key % per_block):
        data = raw.get(first)
        if data is not None and (key - first) * WORD < len(data):
            start = (key - first) * WORD
            return int.from_bytes(data[start : start + WORD], "little")
    return None


def _changed(before: Pieces, after: Pieces) -> Iterator[tuple[int, int]]:
    """(index, new value) of words that differ, or that were not known before."""
    for first, data in after.items():
        old = before.get(first)
        for start in range(0, len(data), PAGE):
            new_page = data[start : start + PAGE]
            old_page = None if old is None else old[start : start + PAGE]
            if old_page != new_page:
                old_words = [None] * 512 if old_page is None else unpack(old_page)
                for n, (one, other) in enumerate(zip(old_words, unpack(new_page), strict=False)):
                    if one != other:
                        yield first + start // WORD + n, other


def _answer(reply: Reply, expected: Outcome) -> Iterator[str]:
    got = (reply.regs[0], reply.detail, tuple(reply.results.values()))
    if got != (expected.status, expected.detail, expected.results):
        wanted = ABI.status_name(number(expected.status))
        yield f"answers {reply}; specified is {wanted} {expected.detail or ''} {expected.results or ''}"


def _vm_answer(
    sent: tuple[int, ...], got: tuple[int, ...], happens_next: Next, advance: int, expected: Outcome
) -> Iterator[str]:
    """A VM is answered in x0 and x1, or the host gets an exit and the VM repeats its call."""
    last = expected.needs[-1]
    if expected.success is True:
        registers, wanted = (0, *sent[1:]), Next("exit", EXIT["SHARE"], (sent[0], sent[1], 0))
    elif last.exits:
        registers, wanted = sent, Next("exit", last.answer, (number(last.detail), 0, 0))
    else:
        registers, wanted = (last.answer, number(last.detail), *sent[2:]), Next("resume", 0, (0, 0, 0))
    if got != registers:
        yield f"leaves {_row(got)} to the VM; specified is {_row(registers)}"
    if happens_next != wanted:
        yield f"goes on with {happens_next}; specified is {wanted}"
    if advance != (0 if last.exits and expected.success is False else 4):
        yield f"moves the program counter by {advance}"


def _row(registers: tuple[int, ...]) -> str:
    return " ".join(f"{value:x}" for value in registers)


def _program_counter(snapshot: Snapshot, context: int) -> int:
    word = _word(pieces(snapshot)["ram"], context * 512 + CONTEXT_PC)
    if word is None:
        raise AssertionError(f"the VM has no context in frame {context:#x}")
    return word


def _memory(
    before: dict[str, Pieces], after: dict[str, Pieces], expected: Outcome, ignored: range
) -> Iterator[str]:
    for name, raw in before.items():
        known: Words = _specified(getattr(expected.state, name))
        if name in ("frame", "block"):
            known = {
                key: pack_record(record) for key, record in _specified(getattr(expected.state, name)).items()
            }
        fresh = {key: value for key, value in after[name].items() if name != "ram" or key in raw}
        actual = dict(_changed(raw, fresh))
        wanted = {key: value for key, value in known.items() if _word(raw, key) != value}
        for key in (*_contexts(expected), *ignored) if name == "ram" else ():
            actual.pop(key, None)
        for key in sorted(actual.keys() | wanted.keys()):
            if actual.get(key) != wanted.get(key):
                yield f"{name}[{key:#x}] becomes {_hex(actual.get(key))}; specified is {_hex(wanted.get(key))}"


def _specified(map_: plain.PlainMap[Any]) -> dict[int, Any]:
    """What the specification changes, but for whole blocks."""
    spans = [span for span in map_.spans() if len(span.keys) * WORD < BLOCK]
    return {key: span.value(key) for span in spans for key in span.keys} | dict(map_.changed())


def _contexts(expected: Outcome) -> Iterable[int]:
    """Words of vCPU contexts that are reset: their layout is the engine's own."""
    for event in expected.happened:
        if isinstance(event, events.ResetContext):
            first = number(event.frame) * 512
            yield from range(first, first + 512)


def _events(happened: list[Any], specified: tuple[Any, ...]) -> list[str]:
    specified = tuple(event for event in specified if not isinstance(event, events.ReadCounter))
    for n, (one, other) in enumerate(zip_longest(happened, specified)):
        if one != other:
            return [f"event {n} is {one}; specified is {other}"]
    return []


def _hex(value: int | None) -> str:
    return "unchanged" if value is None else f"{value:#x}"
