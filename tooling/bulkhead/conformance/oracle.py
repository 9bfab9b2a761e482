"""The specification as an oracle: every step of a machine must be the step that `bulkhead.spec` takes.

Trust label: TOOL. The state before a call is read from raw memory and handed to the specification; its answer, every
changed word and, on the host backend, every event in order must be the machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from typing import Any

from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.conformance.host import HostBackend
from bulkhead.conformance.machine import ABI, Machine, Reply, describe
from bulkhead.conformance.recorded import as_specified
from bulkhead.conformance.snapshot import WORD, Snapshot, unpack
from bulkhead.inspect.records import VM_WORDS
from bulkhead.spec import CALLS, Config, Outcome, State, events, plain
from bulkhead.spec.state import Kind, Record, VmWord
from bulkhead.spec.words import Word

Pieces = dict[int, bytes]
"""Raw words by the index of the first one."""
Words = Mapping[int, int]
# Most records are equal.
unpack_record = cache(plain.unpack)
pack_record = cache(plain.pack)


class Oracle:
    """Makes calls on a machine and compares each with the specification; AssertionError says what differs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.host = machine.backend if isinstance(machine.backend, HostBackend) else None
        self.covered: set[tuple[str, str]] = set()
        """(call, SUCCESS or the number and answer of the condition that failed) seen so far."""
        self.conditions: dict[str, int] = {}
        """Call → how many conditions it has; known once it has succeeded."""
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
        expected = CALLS[name](_state(before, after, name, arguments), **arguments)
        differences = [*_answer(reply, expected), *_memory(pieces(before), pieces(after), expected)]
        if self.host:
            differences += _events(as_specified(self.host.events()), expected.happened)
        assert not differences, "\n  ".join([describe(name, arguments, cpu), *differences])
        self.covered.add((name, branch(expected)))
        if expected.success is True:
            self.conditions[name] = len(expected.needs)
        return reply


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
        "vm": {0: snapshot.vms},
        "frame": {(block - base) // PAGE: data for block, data in snapshot.records.items()},
        "ram": {(block - base) // WORD: data for block, data in snapshot.contents.items()},
    }


def state_of(snapshot: Snapshot) -> State:
    """The specification's view of raw memory. Of RAM only split blocks are known; no call reads any other."""
    raw = pieces(snapshot)

    def words(name: str) -> dict[int, int]:
        return {
            first + n: word
            for first, data in raw[name].items()
            for n, word in enumerate(unpack(data))
            if word
        }

    config = Config(snapshot.layout.ram_base, snapshot.layout.frames, snapshot.layout.cpus)
    state = plain.from_words(
        config, words("block"), {}, words("host_entry"), words("vm"), _reader(raw["ram"])
    )
    records = {frame: unpack_record(word) for frame, word in words("frame").items()}
    return replace(state, frame=plain.PlainMap(records, lambda _: Record(Kind.ENGINE)))


def _state(before: Snapshot, after: Snapshot, name: str, arguments: Mapping[str, int]) -> State:
    """The state before the call; what the counter read during an `activate` is known only afterwards."""
    state = state_of(before)
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


def _memory(before: dict[str, Pieces], after: dict[str, Pieces], expected: Outcome) -> Iterator[str]:
    for name, raw in before.items():
        known: Words = getattr(expected.state, name).changed()
        if name == "frame":
            known = {
                key: pack_record(record) for key, record in getattr(expected.state, name).changed().items()
            }
        fresh = {key: value for key, value in after[name].items() if name != "ram" or key in raw}
        actual = dict(_changed(raw, fresh))
        wanted = {key: value for key, value in known.items() if _word(raw, key) != value}
        for key in _contexts(expected) if name == "ram" else ():
            actual.pop(key, None)
        for key in sorted(actual.keys() | wanted.keys()):
            if actual.get(key) != wanted.get(key):
                yield f"{name}[{key:#x}] becomes {_hex(actual.get(key))}; specified is {_hex(wanted.get(key))}"


def _contexts(expected: Outcome) -> Iterable[int]:
    """Words of vCPU contexts that are reset: their layout is the engine's own."""
    for event in expected.happened:
        if isinstance(event, events.ResetContext):
            first = number(event.frame) * 512
            yield from range(first, first + 512)


def _events(happened: list[Any], specified: tuple[Any, ...]) -> list[str]:
    for n, (one, other) in enumerate(zip_longest(happened, specified)):
        if one != other:
            return [f"event {n} is {one}; specified is {other}"]
    return []


def _hex(value: int | None) -> str:
    return "unchanged" if value is None else f"{value:#x}"
