"""The ghost: the specification's state, kept along with a machine and compared with it.

Trust label: TOOL. After a step of the machine the specification takes the same one; every word that either of them
wrote must then be equal (`follow`). What neither should have written is compared as a whole from time to time (`full`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bulkhead.conformance.oracle.image import WORDS_IN_BLOCK, WORDS_IN_FRAME, Image, Range
from bulkhead.conformance.oracle.index import Index
from bulkhead.conformance.oracle.snapshot import WORD, unpack
from bulkhead.conformance.oracle.watch import Watch, watch
from bulkhead.conformance.testing.machine import Machine
from bulkhead.inspect.records import Kind
from bulkhead.spec import Outcome, State, plain
from bulkhead.spec.state import Record, Run

SHOWN = 20
"""Differences that a failure lists."""
_WHOLE_OF_THE_HOST = (Kind.HOST, Kind.DMA)


class Ghost:
    """A machine's state as specified. `known` are the blocks whose content is known: split ones, those of VMs, and
    those that the engine has zeroed; what the host does in its own whole blocks is its own affair.
    """

    def __init__(self, machine: Machine, has_dma: int) -> None:
        """Learns the state of the machine as it is."""
        self.machine = machine
        self.watch: Watch = watch(machine)
        self.image = Image(machine.layout)
        self.state: State = self.image.state(has_dma)
        self.known: set[int] = set()
        self._index: Index | None = None
        self._owed: dict[Range, None] = {}
        for first, count in self.image.arrays.values():
            self.learn(first, count)
        for block in self.image.blocks(Kind.SPLIT, Kind.VM_PAGE):
            self._learn_block(block)

    @property
    def index(self) -> Index:
        """Who has what, from now on kept up to date."""
        if self._index is None:
            self._index = Index(self.state, self.image)
        return self._index

    def begin(self) -> None:
        """A step of the machine comes."""
        self.watch.begin()

    def learn(self, first: int, count: int) -> None:
        """The machine's words are taken as they are: nobody specifies them."""
        self.image.put(first, self.watch.read(first, count))

    def write(self, address: int, data: bytes) -> None:
        """A store of whole words to raw RAM by somebody else than the engine: the machine's owner, host or VM."""
        self.machine.backend.poke(address, data)
        self.image.put((address - self.machine.layout.ram_base) // WORD, data)

    @contextmanager
    def starting(self, vcpu: int | None) -> Iterator[None]:
        """Another CPU of the VM is just starting the vCPU with its context in this frame, if any: one that is off."""
        if vcpu is None:
            yield
            return
        record = self.state.frame[vcpu]
        assert record.kind == Kind.VCPU and record.parent == Run.OFF, "only a vCPU that is off is started"
        self._write_record(vcpu, record._replace(parent=Run.TRANSIT))
        yield
        self._write_record(vcpu, record)

    def _write_record(self, frame: int, record: Record) -> None:
        place = self.machine.layout.frame_records + frame * WORD
        self.write(place, plain.pack(record).to_bytes(WORD, "little"))

    def take(self, outcome: Outcome) -> State:
        """The specification takes a step that the machine has taken; what it changes is compared with the next."""
        changes = list(self.image.changes(outcome))
        self.state = plain.commit(outcome)
        if outcome.success is True:
            self._discover(changes)
            if self._index is not None:
                self._index.update(changes)
        self._owed.update(dict.fromkeys(changes))
        return self.state

    def look_at(self, frame: int) -> None:
        """All of a frame is compared with the next step."""
        self._owed[frame * WORDS_IN_FRAME, WORDS_IN_FRAME] = None

    def follow(self, outcome: Outcome, unspecified: Iterable[int] = ()) -> list[str]:
        """The specification takes the step that the machine has taken; sentences about what differs in memory.

        `unspecified` are frames with a layout of the engine's own, which are taken as they are now.
        """
        self.take(outcome)
        for frame in unspecified:
            self.learn(frame * WORDS_IN_FRAME, WORDS_IN_FRAME)
        return self.compare()

    def compare(self) -> list[str]:
        """Sentences about what differs after the steps taken, in what they changed and in what the machine wrote."""
        found = self._differences(dict.fromkeys((*self._owed, *self.watch.written())))
        self._owed = {}
        if self.watch.host_runs:
            self.known -= {
                block for block in self.known if self.state.block[block].kind in _WHOLE_OF_THE_HOST
            }
        return found

    def still(self) -> list[str]:
        """What differs after a step that changes nothing."""
        return self._differences(self.watch.written())

    def full(self) -> list[str]:
        """What differs anywhere: in records, level 2 entries, and the content of all known blocks."""
        blocks = ((block * WORDS_IN_BLOCK, WORDS_IN_BLOCK) for block in sorted(self.known))
        return self._differences((*self.image.arrays.values(), *blocks))

    def _discover(self, changes: Iterable[Range]) -> None:
        """Blocks whose content is known from now on: those that were zeroed, and those that were split."""
        first, count = self.image.arrays["block"]
        for start, length in changes:
            if length == WORDS_IN_BLOCK:
                self.known.add(start // WORDS_IN_BLOCK)
            elif 0 <= start - first < count and self.state.block[start - first].kind == Kind.SPLIT:
                self._learn_block(start - first)

    def _learn_block(self, block: int) -> None:
        if block not in self.known:
            self.learn(block * WORDS_IN_BLOCK, WORDS_IN_BLOCK)
            self.known.add(block)

    def _differences(self, ranges: Iterable[Range]) -> list[str]:
        """Sentences about the words in these ranges that are not as specified."""
        found: list[str] = []
        for first, count in ranges:
            if not self.watch.equals(first, self.image.part(first, count)):
                found += self._words(first, count)
        return found if len(found) <= SHOWN else [*found[:SHOWN], f"and {len(found) - SHOWN} words more"]

    def _words(self, first: int, count: int) -> Iterator[str]:
        for start in range(first, first + count, WORDS_IN_FRAME):
            size = min(WORDS_IN_FRAME, first + count - start)
            got, expected = self.watch.read(start, size), bytes(self.image.part(start, size))
            if got != expected:
                pairs = zip(unpack(got), unpack(expected), strict=True)
                for index, (word, wanted) in enumerate(pairs, start):
                    if word != wanted:
                        yield f"{self.image.tell(index, word)}; specified is {self.image.value(index, wanted)}"
