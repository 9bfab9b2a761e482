"""The theorem about a call of a VM that changes ownership: `share`, `unshare` and `relinquish`.

As `refinement`, and: the lock is taken before anything of the state is read or changed, and given back behind the last
change; where it is taken by another CPU, nothing happens and the VM repeats its call. The function works on the VM's
context, whose other words do not change, and leaves what the world switch does next in memory, a `Decision`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bulkhead import abi
from bulkhead.spec import STEPS, Outcome
from bulkhead.spec.invariants import is_split
from bulkhead.spec.state import Kind
from bulkhead.spec.transaction import EXIT, SUCCESS, Need
from bulkhead.spec.words import Word, all_of, term

from . import isa, smt
from .binding import Binding
from .exec.image import Image
from .exec.memory import WORD, Content, Region
from .exec.state import MachineState, TraceItem
from .lowering import ISH, Leaf
from .refinement import Refinement
from .smt import Bits
from .symbolic import fact

CONTEXT, CONTEXT_WORDS = 0xC100_0000_0000, 512
DECISION, DECISION_WORDS = 0xC200_0000_0000, 5
"""Where the VM's context and the decision are: places that overlap no region."""
HVC_SIZE = 4
RESUME, EXITS = 0, 1
"""Tags of a decision; in an exit its class and three words of data follow."""
RETRY = "retry"


def binding(image: Image, step: str) -> Binding:
    """All three are one function, which gets its arguments in the VM's context."""
    return Binding(step, image.function("vcpu", "sharing", "call").name, {})


class VmStep(Refinement):
    """The proof for one such call on one image."""

    def __init__(self, image: Image, step: str, specification: Callable[..., Outcome] | None = None) -> None:
        self.pc, self.vm = (image.offset("VcpuContext", member) // WORD for member in ("pc", "vm"))
        self.context = smt.function("context", 64, 64)
        self.lock, self.frame = smt.variable("lock"), smt.variable("context_frame")
        super().__init__(image, binding(image, step), specification or STEPS[step])
        is_context = all_of(is_split(self.state, self.frame), self.state.frame[self.frame].kind == Kind.VCPU)
        self.solver.assume(fact(is_context))
        self.solver.assume(self._word(0) == abi.load().call(step).id)
        free = Need(self.lock == 0, RETRY, 0, exits=True)
        needs = self.outcome.needs
        # Conditions about the arguments alone are checked without the lock.
        self.unlocked = sum(need.status == "INVALID_ARGUMENT" for need in needs)
        self.outcome = replace(self.outcome, needs=(*needs[: self.unlocked], free, *needs[self.unlocked :]))

    def _word(self, number: int) -> Bits:
        """A word of the context before the call."""
        return self.context(smt.word(number))

    def _arguments(self) -> dict[str, Bits]:
        return {
            "vm": self._word(self.vm),
            "ipa": self._word(1),
            "zero2": self._word(2),
            "zero3": self._word(3),
        }

    def _entry_registers(self) -> dict[int, Bits]:
        return {0: smt.word(DECISION), 1: smt.word(CONTEXT)}

    def _regions(self) -> tuple[Region, ...]:
        """As for calls; RAM without the frame of the context, which is reached by reference only."""

        def private(name: str, base: int, words: int, content: Callable[[Bits], Bits]) -> Region:
            return Region(name, smt.word(base), smt.word(words), Content(content), shared=False)

        unknown = smt.function("decision", 64, 64)
        lock, stopped = self.image.symbol("LOCK").address, self.image.function("stop", "STOPPED").address
        own = [
            private("CONTEXT", CONTEXT, CONTEXT_WORDS, self.context),
            private("DECISION", DECISION, DECISION_WORDS, unknown),
            private("LOCK", lock, 1, lambda _: self.lock),
            # While the machine is being stopped nobody gets the lock, and whoever does not get it does not return.
            private("STOPPED", stopped & -WORD, 1, lambda _: smt.variable("behind_stopped") << 8),
        ]
        return (*own, *(self._without_context(region) for region in super()._regions()))

    def _without_context(self, region: Region) -> Region:
        if region.name != "RAM":
            return region
        return replace(
            region,
            allowed=lambda index: smt.both(region.allowed(index), smt.shift_right(index, 9) != self.frame),
        )

    def _is_unordered(self, item: TraceItem) -> bool:
        """Loads with acquire semantics change nothing: whether the machine is being stopped is asked so."""
        is_load = isinstance(item, isa.Atomic) and item.kind == "LDAR"
        return is_load or item == isa.Barrier("DMB", ISH) or super()._is_unordered(item)

    def _compare_refusal(self, machine: MachineState, number: int, need: Need) -> None:
        """The VM is told, or the host, and the VM repeats; nothing else has changed."""
        lock = smt.word(self.image.symbol("LOCK").address)
        held: list[TraceItem] = [Leaf("lock", (lock,)), Leaf("unlock", (lock,))]
        again: Mapping[int, Word] = {self.pc: self._word(self.pc) - HVC_SIZE}
        if need.status == RETRY:
            self._compare_step(machine, again, [RESUME], [held[0]])
        elif need.exits:
            decision: list[Word] = [EXITS, need.answer, need.detail, 0, 0]
            self._compare_step(machine, again, decision, held)
        else:
            answer: dict[int, Word] = {0: need.answer, 1: need.detail}
            self._compare_step(machine, answer, [RESUME], held if number > self.unlocked else [])
        self._compare_state(machine, self.outcome.before)
        label = f"{number}:{need.label}"
        self.result.refusals[label] = self.result.refusals.get(label, 0) + 1

    def _compare_success(self, machine: MachineState) -> None:
        """The step is the specified one, under the lock; the host learns of it."""
        lock = smt.word(self.image.symbol("LOCK").address)
        trace = [Leaf("lock", (lock,)), *self._expected_trace(), Leaf("unlock", (lock,))]
        decision: list[Word] = [EXITS, EXIT["SHARE"], self._word(0), self._word(1), 0]
        self._compare_step(machine, {0: SUCCESS}, decision, trace)
        self._compare_state(machine, self.outcome.committed)
        self.result.successes += 1

    def _compare_step(
        self,
        machine: MachineState,
        context: Mapping[int, Word],
        decision: list[Word],
        trace: list[TraceItem],
    ) -> None:
        """The VM's context, of which only some words change, the decision, and the trace."""
        for number, word in enumerate(decision):
            is_word = machine.content["DECISION"][smt.word(number)] == term(word)
            self.solver.prove(is_word, f"word {number} of the decision is not the specified one", machine.pc)
        any_word = smt.variable("any_context_word")
        wanted = self.context(any_word)
        for number, word in context.items():
            wanted = smt.choose(any_word == number, term(word), wanted)
        same = machine.content["CONTEXT"][any_word] == wanted
        exists = smt.unsigned_less(any_word, CONTEXT_WORDS)
        self.solver.prove(
            smt.implies(exists, same), "a word of the context is not the specified one", machine.pc
        )
        self._compare_trace(machine, trace)
