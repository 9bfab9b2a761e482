"""The theorem about one call or step: the machine code does what the specification says, for all states and
arguments.

For every path through the code, with the invariants assumed of the state before (only at the keys that
are touched): x0 and x1 are the specified status and detail; the path is one of success or of refusal;
afterwards every record, VM word and word of RAM is as specified, unchanged on an error; and the trace
of stores, barriers, TLB and cache maintenance and leaf calls is the specified one, in order, operands
included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bulkhead.spec import CALLS, STEPS, Outcome, State, events
from bulkhead.spec.invariants import BY_MAP, premise
from bulkhead.spec.invariants import config as config_invariant
from bulkhead.spec.transaction import STATUS, SUCCESS, Need
from bulkhead.spec.words import term

from . import isa, layout, lowering, smt
from .binding import ARGUMENT_BLOCK, Binding
from .contracts import contracts
from .counterexample import explain
from .exec.errors import ProofFailed
from .exec.explore import Explorer, Summary
from .exec.image import Image
from .exec.memory import Region
from .exec.solver import Solver, Statistics
from .exec.state import Environment, MachineState, Store, TraceItem
from .lowering import BlockRecordStore, Leaf, RecordStore
from .smt import Bits, Bool
from .symbolic import fact, is_packed, unknown_state

UNANSWERED = frozenset({"first_touch"})
"""Steps whose only caller does not use their answer, so that the compiler leaves it out."""
UNORDERED = frozenset({"VMS"})
"""Regions whose stores are compared by their final content only."""


@dataclass
class Result:
    """What one refinement proof covered."""

    call: str
    summary: Summary
    statistics: Statistics
    successes: int = 0
    refusals: dict[str, int] = field(default_factory=dict)


class Refinement:
    """The proof for one call on one image."""

    def __init__(
        self, image: Image, binding: Binding, specification: Callable[..., Outcome] | None = None
    ) -> None:
        self.image, self.binding = image, binding
        self.explorer = Explorer
        self.solver = Solver()
        self._instantiating = False
        self._indices: dict[str, list[Bits]] = {}
        self.state = unknown_state(self._touch)
        self.registers = layout.translation(image)
        self.arguments = self._arguments()
        self.solver.assume(fact(config_invariant(self.state.config)))
        if binding.call in STEPS:
            self.solver.assume(fact(premise(self.state, binding.call, self.arguments)))
        self.outcome = (specification or (CALLS | STEPS)[binding.call])(self.state, **self.arguments)
        self.result = Result(binding.call, Summary(), self.solver.statistics)

    def prove(self) -> Result:
        """Explore every path and compare it; ProofFailed with a counterexample if one differs."""
        environment = Environment(
            self.image,
            self.solver,
            self._regions(),
            {
                lowering.VTTBR_EL2: self.registers.vttbr,
                lowering.VTCR_EL2: self.registers.vtcr,
                lowering.CNTPCT_EL0: term(self.state.counter),
            },
            known_indices=self._indices,
        )
        explorer = self.explorer(environment, contracts(self.state))
        try:
            self.result.summary = explorer.run(self.binding.symbol, self._entry_registers(), self._compare)
            self._check_not_vacuous()
        except ProofFailed as failure:
            self._instantiating = True  # reading the state for the message assumes nothing more
            failure.explanation = explain(failure, self.image, self.state, self.arguments)
            raise
        return self.result

    def _arguments(self) -> dict[str, Bits]:
        """Any values."""
        return {
            name: smt.variable(name) for name in (*self.binding.registers.values(), *self.binding.in_memory)
        }

    def _entry_registers(self) -> dict[int, Bits]:
        """The registers in which the function gets its arguments."""
        registers = {number: self.arguments[name] for number, name in self.binding.registers.items()}
        if self.binding.pointer is not None:
            registers[self.binding.pointer] = smt.word(ARGUMENT_BLOCK)
        return registers

    def _regions(self) -> tuple[Region, ...]:
        regions = layout.regions(self.image, self.state, self.registers)
        if not self.binding.in_memory:
            return regions
        words = [self.arguments[name] for name in self.binding.in_memory]
        return (*regions, layout.argument_region(ARGUMENT_BLOCK, words))

    def _touch(self, name: str, key: Bits) -> None:
        """Assume the invariants about a key of the state before, once it matters."""
        if self._instantiating:
            return
        known = self._indices.setdefault(layout.REGION_OF[name], [])
        if not any(key.get_id() == other.get_id() for other in known):
            known.append(key)
        self._instantiating = True
        try:
            for _, invariant in BY_MAP[name]:
                self.solver.assume(fact(invariant(self.state, key)))
        finally:
            self._instantiating = False

    def _compare(self, machine: MachineState, number: int = 0) -> None:
        """Find the specification's own path, from condition `number` on, and compare the machine with it."""
        solver, needs = self.solver, self.outcome.needs
        while number < len(needs):
            condition = fact(needs[number].condition)
            fails, holds = smt.negate(condition), condition
            if solver.satisfiable(fails):
                with solver.scope():
                    solver.assume(fails)
                    self._compare_refusal(machine, number, needs[number])
                if not solver.satisfiable(holds):
                    return
                with solver.scope():
                    solver.assume(holds)
                    self._compare(machine, number + 1)
                return
            solver.assume(holds)
            number += 1
        self._compare_success(machine)

    def _compare_answer(self, machine: MachineState, status: int, detail: Bits) -> None:
        if self.binding.call in UNANSWERED:
            return
        self.solver.prove(machine.x[0] == status, "x0 is not the specified status", machine.pc)
        self.solver.prove(machine.x[1] == detail, "x1 is not the specified detail", machine.pc)

    def _compare_refusal(self, machine: MachineState, number: int, need: Need) -> None:
        """The answer names the first condition that does not hold, and nothing has changed."""
        self._compare_answer(machine, STATUS[need.status], term(need.detail))
        self._compare_state(machine, self.outcome.before)
        self._compare_trace(machine, [])
        label = f"{number}:{need.label}"
        self.result.refusals[label] = self.result.refusals.get(label, 0) + 1

    def _compare_success(self, machine: MachineState) -> None:
        """The state and the trace are the specified ones; the only result of a call stands in place of the detail."""
        results = self.outcome.results
        self._compare_answer(machine, SUCCESS, term(results[0]) if len(results) == 1 else smt.word(0))
        self._compare_state(machine, self._with_contexts(self.outcome.committed))
        self._compare_trace(machine, self._expected_trace())
        self.result.successes += 1

    def _with_contexts(self, after: State) -> State:
        """The state with the contexts that are reset: their layout is the engine's, not the specification's."""
        resets = [event for _, event in self.outcome.events if isinstance(event, events.ResetContext)]
        if resets:
            after = after.copy()
        for event in resets:
            for store in lowering.reset_context(event, self.state, self.registers):
                after.ram.set(store.index, store.value, True)
        return after

    def _compare_state(self, machine: MachineState, after: State) -> None:
        """Every word of every region, at one arbitrary index each."""
        solver, content, config = self.solver, machine.content, self.state.config
        frame, block = smt.variable("any_frame"), smt.variable("any_block")
        vm_word, ram_word = smt.variable("any_vm_word"), smt.variable("any_ram_word")
        blocks = smt.shift_right(term(config.frames), 9)
        goals: list[tuple[str, Bool, Bool]] = [
            (
                "frame record",
                smt.unsigned_less(frame, term(config.frames)),
                is_packed(content["FRAMES"][frame], after.frame[frame]),
            ),
            (
                "block record",
                smt.unsigned_less(block, blocks),
                is_packed(content["BLOCKS"][block], after.block[block]),
            ),
            (
                "host level 2 entry",
                smt.unsigned_less(block, blocks),
                content["HOST_L2"][block] == term(after.host_entry[block]),
            ),
            (
                "devices' level 2 entry",
                smt.unsigned_less(block, blocks),
                content["DMA_L2"][block] == term(after.dma_entry[block]),
            ),
            (
                "VM record",
                smt.unsigned_less(vm_word, 64 * 64),
                content["VMS"][vm_word] == term(after.vm[vm_word]),
            ),
            (
                "word of RAM",
                smt.unsigned_less(ram_word, term(config.frames) << 9),
                content["RAM"][ram_word] == term(after.ram[ram_word]),
            ),
        ]
        for what, exists, equal in goals:
            with solver.scope():
                solver.assume(exists)
                solver.prove(equal, f"{what} differs from the specified state", machine.pc)

    def _expected_trace(self) -> list[TraceItem]:
        """The specified events that happen on this path, in instructions."""
        items: list[TraceItem] = []
        for when, event in self.outcome.events:
            condition = fact(when)
            if self.solver.valid(condition):
                items += lowering.lower(event, self.state, self.registers)
            else:
                self.solver.prove(smt.negate(condition), "a path on which an event may or may not happen")
        return items

    def _compare_trace(self, machine: MachineState, expected: list[TraceItem]) -> None:
        actual = [item for item in machine.trace if not self._is_unordered(item)]
        for position, (mine, wanted) in enumerate(zip(actual, expected, strict=False)):
            same = same_item(mine, wanted)
            if same is None:
                raise ProofFailed(
                    f"step {position} of the trace is {describe(mine)}, specified is {describe(wanted)}",
                    machine.pc,
                    self.solver.model(),
                )
            self.solver.prove(
                same, f"operand of {describe(wanted)}, step {position} of the trace", machine.pc
            )
        if len(actual) != len(expected):
            extra = (actual if len(actual) > len(expected) else expected)[min(len(actual), len(expected))]
            missing = "specified but missing" if len(actual) < len(expected) else "not specified"
            raise ProofFailed(f"{describe(extra)} is {missing}", machine.pc, self.solver.model())

    def _is_unordered(self, item: TraceItem) -> bool:
        return isinstance(item, isa.ReadSystem) or (isinstance(item, Store) and item.region in UNORDERED)

    def _check_not_vacuous(self) -> None:
        """Success and every refusal happen on some path: the theorem is not about nothing."""
        if not self.result.successes:
            raise ProofFailed(f"no path of {self.binding.call} succeeds")
        for number, need in enumerate(self.outcome.needs):
            if f"{number}:{need.label}" not in self.result.refusals:
                raise ProofFailed(f"no path of {self.binding.call} answers {need.label} (condition {number})")


def same_item(mine: TraceItem, wanted: TraceItem) -> Bool | None:
    """When two items are the same; None if they are of different kinds."""
    match mine, wanted:
        case Store("FRAMES", index, _), RecordStore(frame):
            return index == frame
        case Store("BLOCKS", index, _), BlockRecordStore(block):
            return index == block
        case Store(region, index, value), Store(other, other_index, other_value) if region == other:
            return smt.both(index == other_index, value == other_value)
        case Leaf(name, operands), Leaf(other, others) if name == other and len(operands) == len(others):
            return smt.both(*(one == two for one, two in zip(operands, others, strict=True)))
        case isa.SystemInstruction(system, operand), isa.SystemInstruction(other_system, other_operand):
            return operand == other_operand if system == other_system else None
        case isa.WriteSystem(system, value), isa.WriteSystem(other_system, other_value):
            return value == other_value if system == other_system else None
        case isa.Barrier(), isa.Barrier():
            return smt.truth(True) if mine == wanted else None
        case isa.Atomic("CAS", True, True, 8, address), Leaf("lock", (lock,)):
            return address == lock
        case isa.Atomic("STLR", False, True, 8, address), Leaf("unlock", (lock,)):
            return address == lock
        case isa.Atomic("CAS", True, True, 8, address), Leaf("claim", (frame,)):
            return address == smt.word(layout.window("FRAMES")) + (frame << 3)
    return None


def describe(item: TraceItem) -> str:
    """One item of a trace as text."""
    match item:
        case Store(region, _, _):
            return f"store to {region}"
        case RecordStore(_):
            return "store to FRAMES"
        case BlockRecordStore(_):
            return "store to BLOCKS"
        case Leaf(name, _):
            return f"call of {name}"
        case isa.SystemInstruction(name, _):
            return f"SYS {name}"
        case isa.WriteSystem(name, _):
            return f"MSR {name}"
        case isa.Barrier(kind, option):
            return f"{kind} #{option}"
    return type(item).__name__
