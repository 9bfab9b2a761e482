"""The contracts of the leaf functions, proved on their own machine code.

The leaves are loops with a fixed number of rounds. Those over a frame are followed through all rounds; the one over a
block is proved by induction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from . import isa, smt
from .exec.errors import ProofFailed
from .exec.explore import Explorer, Summary
from .exec.image import Image
from .exec.memory import Content, Region
from .exec.solver import Solver, Statistics
from .exec.state import Environment, MachineState, Store, stack
from .leaves import LEAVES, LOOPS, Loop, Setting
from .smt import Bits, Bool


@dataclass
class Kept:
    """What the proof of one contract covered."""

    leaf: str
    summary: Summary = field(default_factory=Summary)
    statistics: Statistics = field(default_factory=Statistics)


def apart(region: Region) -> Bool:
    """A leaf's memory is not its stack: so it is for every caller, whose regions are proved not to overlap."""
    return smt.negate(region.overlaps(stack()))


def prove(image: Image, leaf: str) -> Kept:
    """The leaf does exactly what its contract says; ProofFailed if not."""
    kept = Kept(leaf)
    if leaf in LOOPS:
        Induction(image, leaf, LOOPS[leaf](), kept).prove()
        return kept
    unknown = smt.function("frame_content", 64, 64)
    for setting in LEAVES[leaf]():
        frame = Region("FRAME", setting.base, smt.word(setting.words), Content(unknown))
        solver = Solver(kept.statistics)
        solver.assume(apart(frame))
        environment = Environment(image, solver, (frame,), setting.system_registers, known_indices=None)
        explorer = Explorer(environment, {})
        explorer.summary = kept.summary
        explorer.run(leaf, setting.arguments, partial(compare, setting))
    return kept


class Induction:
    """A loop that is proved by induction over its turns.

    The head of the loop is reached in turn n, 0 <= n < `turns`, with registers that have not changed since turn 0 or
    have grown by the same amount each turn, as the first turn shows; others hold anything. One turn from there leaves
    the trace of turn n and leads to the head in turn n + 1, or after the last turn to the end.
    """

    def __init__(self, image: Image, leaf: str, loop: Loop, kept: Kept) -> None:
        self.leaf, self.loop, self.kept = leaf, loop, kept
        setting = loop.setting
        content = Content(smt.function("block_content", 64, 64))
        region = Region("FRAME", setting.base, smt.word(setting.words), content)
        self.solver = Solver(kept.statistics)
        self.solver.assume(apart(region))
        self.environment = Environment(
            image, self.solver, (region,), setting.system_registers, known_indices=None
        )
        self.explorer = Explorer(self.environment, {}, stop=loop_head(image, leaf))
        self.explorer.summary = kept.summary
        self.turn = smt.variable("turn")

    def prove(self) -> None:
        """ProofFailed if the loop does not keep its contract."""
        heads: list[MachineState] = []
        self.explorer.stopped = heads.append
        self.explorer.run(self.leaf, self.loop.setting.arguments, self._too_early)
        first = self._only(heads)
        if first.trace:
            raise first.failure("the leaf has effects before its loop")
        self.explorer.go_on(first.fork(), self._too_early)
        second = self._only(heads)
        steps = [constant_step(one, other) for one, other in zip(first.x, second.x, strict=True)]
        self._inductive_step(first, steps)

    def _only(self, heads: list[MachineState]) -> MachineState:
        if len(heads) != 1:
            raise ProofFailed(f"{len(heads)} paths of {self.leaf} lead to its loop instead of one")
        return heads.pop()

    def _too_early(self, machine: MachineState) -> None:
        raise machine.failure("the leaf ends before its first turn")

    def _inductive_step(self, first: MachineState, steps: list[int | None]) -> None:
        start = first.fork()
        start.steps, start.trail = 0, []
        start.flags = isa.Flags(*(smt.fresh_bool(name) for name in "nzcv"))
        start.x = [self._register(value, step, self.turn) for value, step in zip(first.x, steps, strict=True)]
        ends: list[int] = []

        def next_turn(machine: MachineState) -> None:
            following = self.turn + 1
            self.solver.prove(smt.unsigned_less(following, self.loop.turns), "a turn too many", machine.pc)
            for number, (value, step) in enumerate(zip(first.x, steps, strict=True)):
                if step is not None:
                    wanted = self._register(value, step, following)
                    self.solver.prove(machine.x[number] == wanted, f"x{number} of the next turn", machine.pc)
            if saved(machine) != saved(first):
                raise machine.failure("a turn changes the stack")
            compare(replace(self.loop.setting, trace=self.loop.trace(self.turn)), machine)

        def last_turn(machine: MachineState) -> None:
            ends.append(machine.pc)
            self.solver.prove(self.turn + 1 == self.loop.turns, "the loop ends early", machine.pc)
            trace = [*self.loop.trace(self.turn), *self.loop.setting.trace]
            compare(replace(self.loop.setting, trace=trace), machine)

        self.explorer.stopped = next_turn
        self.solver.assume(smt.unsigned_less(self.turn, self.loop.turns))
        self.explorer.go_on(start, last_turn)
        if not ends:
            raise ProofFailed(f"the loop of {self.leaf} never ends")

    def _register(self, value: Bits, step: int | None, turn: Bits) -> Bits:
        if step is None:
            return smt.fresh("any")
        return smt.simplify(value + turn * smt.word(step))


def saved(machine: MachineState) -> dict[int, int]:
    """What the stack holds, as the identities of terms."""
    return {address: value.get_id() for address, value in machine.stack.items()}


def constant_step(before: Bits, after: Bits) -> int | None:
    """By how much a register has grown, if that is a constant."""
    return smt.constant(smt.simplify(after - before))


def loop_head(image: Image, leaf: str) -> int:
    """The target of the one branch backwards in a leaf function."""
    symbol = image.symbol(leaf)
    heads = set()
    for pc in range(symbol.address, symbol.address + symbol.size, 4):
        name, _, operands = image.disassemble(pc).partition(" ")
        if name[:1] in ("b", "c", "t") and "#0x" in operands and not name.startswith(("bl", "cmp", "bic")):
            target = int(operands.rpartition("#")[2], 16)
            if symbol.address <= target <= pc:
                heads.add(target)
    if len(heads) != 1:
        raise ProofFailed(f"{leaf} has {len(heads)} loops instead of one")
    return heads.pop()


def compare(setting: Setting, machine: MachineState) -> None:
    """The machine's result and its trace, item by item, are the wanted ones."""
    wanted = setting.trace
    if setting.result is not None:
        machine.environment.solver.prove(machine.x[0] == setting.result, "x0 is not the result", machine.pc)
    done = [item for item in machine.trace if not isinstance(item, isa.ReadSystem)]
    if len(done) != len(wanted):
        raise machine.failure(f"{len(done)} effects instead of {len(wanted)}")
    for number, (mine, theirs) in enumerate(zip(done, wanted, strict=True)):
        match mine, theirs:
            case Store(region, index, value), Store(other, other_index, other_value) if region == other:
                same = smt.both(index == other_index, value == other_value)
            case isa.SystemInstruction(name, operand), isa.SystemInstruction(other_name, other_operand):
                same = smt.both(smt.truth(name == other_name), operand == other_operand)
            case isa.Barrier(), isa.Barrier():
                same = smt.truth(mine == theirs)
            case _:
                raise ProofFailed(f"effect {number} is {mine}, its contract says {theirs}", machine.pc)
        machine.environment.solver.prove(same, f"effect {number} is not that of the contract", machine.pc)
