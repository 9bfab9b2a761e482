"""One call, or another step of the engine, as one atomic change: conditions in the order of their errors, then changes.

On plain integers the first condition that does not hold ends the call; on terms all conditions are
collected. Either way nothing of the given state changes on an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from bulkhead import abi

from . import events, stage2
from .events import Event
from .state import Record, State
from .words import Truth, Word, all_of, choose, negate

PSCI_ERRORS = {
    "INVALID_PARAMETERS": -2, "DENIED": -3, "NO_ENTROPY": -3, "ALREADY_ON": -4, "ON_PENDING": -5, "INVALID_ADDRESS": -9,
}  # fmt: skip
"""Error codes of PSCI (DEN 0022, 5.2.2) and of TRNG (DEN 0098, 2.2), which are not statuses of Bulkhead's calls."""
REPEAT = "REPEAT"
"""No status, and never in a register: nothing happens, and the VM executes its instruction again."""
STATUS = {
    REPEAT: 0,
    **{name: value & 0xFFFF_FFFF_FFFF_FFFF for name, value in PSCI_ERRORS.items()},
    **{status.name: status.value & 0xFFFF_FFFF_FFFF_FFFF for status in abi.load().statuses},
}
"""Statuses as they stand in x0."""
EXIT = {line.name: line.value for line in abi.load().exits}
"""Exit classes."""
SUCCESS = STATUS["SUCCESS"]


class Need(NamedTuple):
    """A condition and the answer if it does not hold: a status with its detail.

    If it `exits`, the step of a VM is not answered: `status` is the class of an exit to the host and `detail` its
    data, after which the VM repeats its call.
    """

    condition: Truth
    status: str
    detail: Word
    exits: bool = False

    @property
    def answer(self) -> int:
        """x0, or the exit class."""
        return EXIT[self.status] if self.exits else STATUS[self.status]

    @property
    def label(self) -> str:
        if self.exits:
            return f"exit {self.status}"
        return (
            f"{self.status}({self.detail})" if isinstance(self.detail, int) and self.detail else self.status
        )


class Part(NamedTuple):
    """A block of a definition that counts only if `taken`; `inside` is the name of the block around it, if any."""

    name: str
    taken: Truth
    inside: str | None


@dataclass(frozen=True)
class Outcome:
    """The answer of a call or a step.

    `status` and `detail` go to x0 and x1, unless the condition that failed exits; `results` to x1 and up on success.
    `success` says whether every condition held, `state` is the state behind the call (on plain integers the given one
    after an error), `committed` the changed one. `events` come with the condition under which each happens; `happened`
    drops those that do not. `parts` are the blocks of the definition that count only sometimes, in their order.
    """

    status: Word
    detail: Word
    results: tuple[Word, ...]
    success: Truth
    before: State
    committed: State
    needs: tuple[Need, ...]
    events: tuple[tuple[Truth, Event], ...]
    parts: tuple[Part, ...] = ()

    @property
    def state(self) -> State:
        return self.before if self.success is False else self.committed

    @property
    def happened(self) -> tuple[Event, ...]:
        """The events of a call on plain integers, in order."""
        return tuple(event for when, event in self.events if when is True) if self.success is True else ()


class Refused(Exception):
    """Internal: a condition on plain integers does not hold."""


class Transaction:
    """The view that the definition of a call has: `before` to read, `need` to check, the rest to change."""

    def __init__(self, before: State) -> None:
        self.before = before
        self._after: State | None = None
        self.needs: list[Need] = []
        self.events: list[tuple[Truth, Event]] = []
        self.results: tuple[Word, ...] = ()
        self.parts: list[Part] = []
        self._when: Truth = True
        self._inside: str | None = None

    @property
    def after(self) -> State:
        """The state that the changes make; there is none as long as there are none."""
        if self._after is None:
            self._after = self.before.copy()
        return self._after

    def need(self, condition: Truth, status: str, detail: Word = 0, exits: bool = False) -> None:
        """Unless the condition holds, the call answers `status` with `detail`."""
        checked = condition if self._when is True else negate(all_of(self._when, negate(condition)))
        self.needs.append(Need(checked, status, detail, exits))
        if checked is False:
            raise Refused

    def need_or_exit(self, condition: Truth, exit_class: str, data: Word) -> None:
        """Unless the condition holds, the VM exits to the host and repeats its call later."""
        self.need(condition, exit_class, data, exits=True)

    @contextmanager
    def when(self, condition: Truth, *, name: str) -> Iterator[None]:
        """Conditions and changes inside count only if `condition` holds; successes differ by the names that do."""
        outer, around = self._when, self._inside
        self._when, self._inside = all_of(outer, condition), name
        self.parts.append(Part(name, self._when, around))
        try:
            yield
        finally:
            self._when, self._inside = outer, around

    def emit(self, event: Event) -> None:
        """Something happens that the state does not show."""
        if self._when is not False:
            self.events.append((self._when, event))

    def set_entry(self, table: Word, index: Word, descriptor: Word) -> None:
        """Entry `index` of the table in frame `table` becomes `descriptor`."""
        self.after.ram.set(stage2.word(table, index), descriptor, self._when)
        self.emit(events.SetTableEntry(table, index, descriptor))

    def set_host_entry(self, block: Word, descriptor: Word) -> None:
        """The host's level 2 descriptor of a block."""
        self.after.host_entry.set(block, descriptor, self._when)
        self.emit(events.SetHostEntry(block, descriptor))

    def set_dma_entry(self, block: Word, descriptor: Word) -> None:
        """The level 2 descriptor of a block for the host's devices."""
        self.after.dma_entry.set(block, descriptor, self._when)
        self.emit(events.SetDmaEntry(block, descriptor))

    def set_record(self, frame: Word, record: Record) -> None:
        """The ownership record of a frame."""
        self.after.frame.set(frame, record, self._when)
        self.emit(events.SetFrameRecord(frame))

    def claim_vcpu(self, frame: Word, engine: Record) -> None:
        """The record of a vCPU, taken atomically."""
        self.after.frame.set(frame, engine, self._when)
        self.emit(events.ClaimVcpu(frame))

    def set_block(self, block: Word, record: Record) -> None:
        """The ownership record of a block."""
        self.after.block.set(block, record, self._when)
        self.emit(events.SetBlockRecord(block))

    def set_vm(self, vm: Word, word: Word, value: Word) -> None:
        """A word of the record of a VM."""
        self.after.vm.set(vm << 6 | word, value, self._when)

    def zero_frame(self, frame: Word) -> None:
        """All 512 words of a frame become zero."""
        self.after.ram.fill_same(stage2.word(frame, 0), stage2.TABLE_ENTRIES, 0, self._when)
        self.emit(events.ZeroFrame(frame))

    def zero_block(self, block: Word) -> None:
        """All 512 frames of a block become zero."""
        first, count = block << 2 * stage2.TABLE_SHIFT, 1 << 2 * stage2.TABLE_SHIFT
        self.after.ram.fill_same(first, count, 0, self._when)
        self.emit(events.ZeroBlock(block))

    def fill_table(self, table: Word, block: Word) -> None:
        """The entries of the table in frame `table` map the frames of a block, in their order."""
        first = block << stage2.TABLE_SHIFT
        self.after.ram.fill(
            stage2.word(table, 0),
            stage2.TABLE_ENTRIES,
            lambda offset: stage2.page(self.before.config, first + offset),
            self._when,
        )
        self.emit(events.FillTable(table, block))

    def fill_records(self, block: Word, record: Callable[[Word], Record], event: Event) -> None:
        """The records of the 512 frames of a block, by their offset in it."""
        self.after.frame.fill(block << stage2.TABLE_SHIFT, stage2.TABLE_ENTRIES, record, self._when)
        self.emit(event)

    def measure(
        self, vm: Word, words: tuple[Word, Word, Word, Word], frame: Word | None, measurement: int
    ) -> None:
        """The measurement M at VM word `measurement` becomes SHA-256(M ‖ words ‖ content of `frame`)."""
        if self._when is False:
            return
        old = tuple(self.after.vm_word(vm, measurement + position) for position in range(4))
        digest = self.before.digest((*old, *words), frame, self.after.ram)
        for position, value in enumerate(digest):
            self.set_vm(vm, measurement + position, value)
        self.emit(events.Measure(vm, words, frame))


def run(
    before: State,
    definition: Callable[[Transaction], None],
    transaction_of: Callable[[State], Transaction] = Transaction,
) -> Outcome:
    """Carry out the definition of a call; another kind of transaction lets tests try a wrong definition."""
    transaction = transaction_of(before)
    try:
        definition(transaction)
        success = all_of(*(need.condition for need in transaction.needs))
    except Refused:
        success = False
    status: Word = SUCCESS
    detail: Word = 0
    for need in reversed([need for need in transaction.needs if need.condition is not True]):
        status = choose(need.condition, status, need.answer)
        detail = choose(need.condition, detail, need.detail)
    return Outcome(
        status,
        detail,
        transaction.results if success is not False else (),
        success,
        before,
        transaction.after if success is not False else before,
        tuple(transaction.needs),
        tuple(transaction.events),
        tuple(transaction.parts),
    )
