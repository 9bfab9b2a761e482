"""Why a changed instruction still does what the specification says: what it changes makes no difference.

The proof of the unchanged code is followed once more. Where it comes by, the changed instruction is carried out beside
the right one, on the same state and under the facts of the path: what differs are bits of registers, or flags. Then the
proof is repeated with anything in those: if it holds, nobody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable

from bulkhead.prove import isa, smt
from bulkhead.prove.exec.errors import ProofFailed
from bulkhead.prove.exec.explore import Explorer
from bulkhead.prove.exec.state import MachineState
from bulkhead.prove.refinement import Refinement, same_item
from bulkhead.prove.smt import Bits

Visit = Callable[[MachineState], None]
FLAGS = ("n", "z", "c", "v")
ELSEWHERE = "elsewhere"
"""What differs is not in a register or a flag."""


class Visiting(Explorer):
    """Calls `before` and `after` around the instruction at `place`."""

    place = 0
    before: Visit
    after: Visit

    def _step(self, state: MachineState) -> isa.Flow:
        if state.pc != self.place:
            return super()._step(state)
        self.before(state)
        flow = super()._step(state)
        self.after(state)
        return flow


def visit(proof: Refinement, place: int, before: Visit, after: Visit) -> None:
    """The proof, looking at one place. ProofFailed as the proof."""

    def explorer(*arguments: object) -> Explorer:
        made = Visiting(*arguments)  # type: ignore[arg-type]  # what Explorer takes
        made.place, made.before, made.after = place, before, after
        return made

    proof.explorer = explorer  # type: ignore[assignment]  # a subclass of Explorer
    proof.prove()


def differences(proof: Refinement, place: int, word: int) -> dict[str, int]:
    """What differs behind the instruction `word` at `place` from what is there, on some path: register → its bits."""
    found: dict[str, int] = {}

    def compare(state: MachineState) -> None:
        right, wrong = state.fork(), state.fork()
        solver = state.environment.solver
        original = state.environment.image.instruction(place)
        assert original is not None
        flow = isa.step(right, original)
        try:
            other = isa.step(wrong, word)
        except (ProofFailed, isa.UnknownInstruction):
            found[ELSEWHERE] = 1
            return
        for number, (one, two) in enumerate(zip(right.x, wrong.x, strict=True)):
            if not solver.valid(one == two):
                found[f"x{number}"] = found.get(f"x{number}", 0) | different_bits(state, one, two)
        for name in FLAGS:
            if not solver.valid(getattr(right.flags, name) == getattr(wrong.flags, name)):
                found[name] = 1
        if not same_elsewhere(right, wrong, flow, other):
            found[ELSEWHERE] = 1

    visit(proof, place, compare, lambda _: None)
    return found


def different_bits(state: MachineState, one: Bits, two: Bits) -> int:
    """Mask of the bits in which two words can differ."""
    valid = state.environment.solver.valid
    return sum(1 << bit for bit in range(64) if not valid(smt.bit(bit, one) == smt.bit(bit, two)))


def same_elsewhere(right: MachineState, wrong: MachineState, flow: isa.Flow, other: isa.Flow) -> bool:
    """Whether where to go, the stack, its pointer and all effects are the same."""
    solver = right.environment.solver
    match flow, other:
        case isa.Branch(), isa.Branch():
            same_place = flow.target == other.target or solver.valid(smt.negate(flow.condition))
            if not same_place or not solver.valid(flow.condition == other.condition):
                return False
        case _:
            if flow != other:
                return False
    if len(right.trace) != len(wrong.trace) or right.stack.keys() != wrong.stack.keys():
        return False
    effects = [same_item(one, two) for one, two in zip(right.trace, wrong.trace, strict=True)]
    stack = [right.stack[address] == wrong.stack[address] for address in right.stack]
    equal = [right.sp == wrong.sp, *stack, *(effect for effect in effects if effect is not None)]
    return None not in effects and all(solver.valid(one) for one in equal)


def is_explained(prepare: Callable[[], Refinement], place: int, word: int) -> bool:
    """Whether nothing differs, or nobody looks at what differs."""
    different = differences(prepare(), place, word)
    if ELSEWHERE in different:
        return False

    def spoil(state: MachineState) -> None:
        for name, mask in different.items():
            if name in FLAGS:
                state.flags = isa.Flags(
                    *(smt.fresh_bool(f) if f == name else getattr(state.flags, f) for f in FLAGS)
                )
            else:
                number = int(name[1:])
                spoilt = state.x[number] & ~mask | smt.fresh("anything") & mask
                state.x[number] = smt.simplify(spoilt)

    try:
        visit(prepare(), place, lambda _: None, spoil)
    except ProofFailed:
        return False
    return True
