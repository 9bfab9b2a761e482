"""The specification as an oracle: every call and step of a machine must be the one that `bulkhead.spec` takes.

Trust label: TOOL. The specification's state lives along with the machine (`ghost`); its answer, every changed word and,
on the host backend, every event in order must be the machine's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from bulkhead.conformance.backends.backend import REGISTERS
from bulkhead.conformance.backends.host import HostBackend, Next
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.conformance.oracle.image import WORDS_IN_FRAME
from bulkhead.conformance.oracle.recorded import CONTEXT_PC, as_specified
from bulkhead.conformance.oracle.snapshot import unpack
from bulkhead.conformance.testing.machine import ABI, Machine, Reply, describe, filler
from bulkhead.errors import InvalidInput
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Outcome, State, dispatch, events, pairs
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import VM_SLOTS, VmWord
from bulkhead.spec.transaction import EXIT
from bulkhead.spec.words import Word

DMA_WINDOWS = 1
"""Bit of `features`."""
FULL_EVERY = 1000
"""Steps from one full comparison to the next."""
TAIL = 12
"""Calls that a failure shows."""


class Oracle:
    """Makes calls on a machine and compares each with the specification; AssertionError says what differs.

    What a step wrote is compared at once, everything every `FULL_EVERY` steps, or after each if `thorough`.
    """

    def __init__(self, machine: Machine, *, thorough: bool = False) -> None:
        self.machine = machine
        self.host = machine.backend if isinstance(machine.backend, HostBackend) else None
        self.has_dma = machine.ok("features").results["features"] & DMA_WINDOWS
        self.covered: set[tuple[str, str]] = set()
        """(call, SUCCESS or the number and answer of the condition that failed) seen so far."""
        self.conditions: dict[str, frozenset[str]] = {}
        """Call → the ways in which it can be refused, as in `covered`; known once it has succeeded."""
        self.pairs: Counter[Pair] = Counter()
        """How often each pair was seen."""
        self.last: deque[tuple[str, dict[str, int], int]] = deque(maxlen=TAIL)
        """The latest steps: name, arguments, CPU."""
        self._until_full = 0 if thorough else FULL_EVERY
        self._due = self._until_full
        self._ghost: Ghost | None = None

    @property
    def ghost(self) -> Ghost:
        """The state as specified, and its comparison with the machine's."""
        if self._ghost is None:
            self._ghost = Ghost(self.machine, self.has_dma)
        return self._ghost

    def forget(self) -> None:
        """The machine has changed otherwise than by `step`: its state is taken as it is."""
        self._ghost = None

    def step(self, name: str, *, cpu: int = 0, **arguments: int) -> Reply:
        """One call that changes ownership."""
        __tracebackhide__ = True
        ghost = self.ghost
        ghost.begin()
        self.last.append((name, arguments, cpu))
        counter = self.host.counter if self.host else None
        reply = self.machine.call(name, cpu=cpu, **arguments)
        expected = CALLS[name](self._with_counter(counter, name, arguments), **arguments)
        dispatch.with_contexts(expected)
        self._judge(_answer(reply, expected), expected)
        self._note(name, expected)
        return reply

    def vm_step(self, name: str, vm: int, x1: int, x2: int = 0, x3: int = 0, *, cpu: int = 0) -> Next:
        """One of the calls of vCPU 0 of a VM that change ownership. Host backend only."""
        __tracebackhide__ = True
        if self.host is None:
            raise InvalidInput("VM calls are made by guests, but on the host backend")
        ghost = self.ghost
        ghost.begin()
        arguments = dict(zip(ARGUMENTS[name], (vm, x1, x2, x3), strict=True))
        self.last.append((name, arguments, cpu))
        context = number(ghost.state.vm_word(vm, VmWord.VCPU)) - 1
        before = self._program_counter(context)
        sent = (ABI.call(name).id, x1, x2, x3, *map(filler, range(4, REGISTERS)))
        registers, happens_next = self.host.vm_call(cpu, vm, sent)
        expected = STEPS[name](ghost.state, **arguments)
        advance = self._program_counter(context) - before
        step, contexts = self._call_of_vm(context, sent, expected)
        self._judge(_vm_answer(sent, registers, happens_next, advance, expected), step, contexts)
        self._note(name, expected)
        return happens_next

    def _call_of_vm(
        self, context: int, sent: tuple[int, ...], expected: Outcome
    ) -> tuple[Outcome, list[int]]:
        """What a VM that called with the registers `sent` leaves behind, and frames of which that is not known."""
        return expected, [context]

    def first_touch(self, block: int, *, cpu: int = 0) -> None:
        """The host's access to the block at physical `block`, which makes it the host's. Host backend only."""
        __tracebackhide__ = True
        if self.host is None:
            raise InvalidInput("the host's first touch is the host program's, but on the host backend")
        self.ghost.begin()
        arguments = {"block": block}
        self.last.append(("first_touch", arguments, cpu))
        self.host.first_touch(cpu, block)
        frame = (block - self.machine.layout.ram_base) >> 12
        expected = STEPS["first_touch"](self.ghost.state, block=frame >> 9)
        self._judge((), expected)
        self._note("first_touch", expected)

    def run(self, name: str, *, cpu: int = 0, **arguments: int) -> None:
        """A `vcpu_run` or `vcpu_put`. InvalidInput: it takes a `VcpuOracle`."""
        raise InvalidInput(
            f"{name} of CPU {cpu} is not followed here", hint="on the host backend VcpuOracle does"
        )

    def refused_while_locked(self, name: str, *, cpu: int = 0, **arguments: int) -> None:
        """A call that changes ownership, while another CPU holds the lock: BUSY, and nothing else happens."""
        __tracebackhide__ = True
        self.ghost.begin()
        self.last.append((name, arguments, cpu))
        with self.machine.locked():
            reply = self.machine.call(name, cpu=cpu, **arguments)
        differences = [] if reply.status == "BUSY" else [f"answers {reply} while the lock is taken"]
        differences += self.ghost.still()
        self._fail_if(differences + _events(as_specified(self.ghost.watch.events() or ()), ()))
        self.pairs[pairs.busy(name)] += 1

    def check(self) -> None:
        """Everything is compared."""
        __tracebackhide__ = True
        self._due = self._until_full
        self._fail_if(self.ghost.full())

    def _judge(self, answer: Iterable[str], expected: Outcome, contexts: Sequence[int] = ()) -> None:
        """The step just made, against the one that the specification takes."""
        __tracebackhide__ = True
        differences = [*answer, *self.ghost.follow(expected, contexts)]
        happened = self.ghost.watch.events()
        if happened is not None:
            differences += _events(as_specified(happened), expected.happened)
        self._conclude(differences)

    def _conclude(self, differences: list[str]) -> None:
        """Nothing may differ; from time to time everything is compared."""
        __tracebackhide__ = True
        self._fail_if(differences)
        self._due -= 1
        if self._due <= 0:
            self.check()

    def _fail_if(self, differences: list[str]) -> None:
        __tracebackhide__ = True
        if differences:
            *earlier, (name, arguments, cpu) = self.last or [("nothing", {}, 0)]
            lines = [describe(name, arguments, cpu), *differences]
            if earlier:
                lines += ["the calls before it:", *(f"  {describe(*call)}" for call in earlier)]
            raise AssertionError("\n  ".join(lines))

    def _with_counter(self, counter: int | None, name: str, arguments: Mapping[str, int]) -> State:
        """The state before the call. A real machine's counter during an `activate` is known only afterwards."""
        state, vm = self.ghost.state, arguments.get("vm", VM_SLOTS)
        if name != "activate" or vm >= VM_SLOTS:
            return state
        if counter is not None:
            return replace(state, counter=counter)
        first = self.ghost.image.arrays["vm"][0] + vm * VmWord.COUNT + VmWord.COUNTER_OFFSET
        return replace(state, counter=unpack(self.ghost.watch.read(first, 1))[0])

    def _program_counter(self, context: int) -> int:
        """Of the vCPU whose context is in this frame."""
        return unpack(self.ghost.watch.read(context * WORDS_IN_FRAME + CONTEXT_PC, 1))[0]

    def _note(self, name: str, expected: Outcome) -> None:
        self.covered.add((name, branch(expected)))
        self.pairs[pairs.of(name, expected)] += 1
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


def _events(happened: list[Any], specified: tuple[Any, ...]) -> list[str]:
    specified = tuple(event for event in specified if not isinstance(event, events.ReadCounter))
    for n, (one, other) in enumerate(zip_longest(happened, specified)):
        if one != other:
            return [f"event {n} is {one}; specified is {other}"]
    return []
