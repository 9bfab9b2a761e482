"""Histories on a machine: made, judged, counted. Trust label: TOOL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import WORD, Snapshot, frame_record_address, unpack
from bulkhead.conformance.testing.machine import Machine
from bulkhead.errors import CheckFailed
from bulkhead.inspect.records import Kind, VmState
from bulkhead.spec.state import VmWord

from .memory import Changed, Mirror, unpack_record
from .program import History, Program, Step, decode, encode
from .propose import Conflicts, conflict, tidy
from .search import Explanation, Search, Unexplained
from .stage import FREE_BLOCKS, Resources, Stage
from .world import World

FRAMES = 24
"""Frames that a program may use."""
SPARE_BLOCKS = FREE_BLOCKS + 2
DMA_WINDOWS = 1
LIMIT = 30.0
"""Seconds that a program may take."""
CHUNK = 100
"""Calls of CPU 0 alone in one message."""


@dataclass
class Counts:
    """What has been seen."""

    histories: int = 0
    explained: int = 0
    calls: int = 0
    overlapping: int = 0
    reordered: int = 0
    busy: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        )


@dataclass(frozen=True)
class Judged:
    """A program, what came of it, and whether that has an explanation."""

    program: Program
    history: History
    verdict: Explanation | Unexplained


class Ground:
    """A machine in QEMU on which programs are carried out, each after the other has been cleared away."""

    def __init__(self, backend: QemuBackend, random: Random, cpus: int) -> None:
        self.backend, self.random, self.cpus = backend, random, cpus
        self._prepare()

    def _prepare(self) -> None:
        self.machine = Machine(self.backend)
        self.has_dma = self.machine.ok("features").results["features"] & DMA_WINDOWS
        self.split = self.backend.layout.split_block
        self.mirror = Mirror(self.machine, self.has_dma)
        self.cleared: list[Step] = []
        self._setting: History = []
        self._watched: tuple[int, ...] = ()
        self._present = World(self.mirror.state, (None,) * self.backend.layout.cpus)

    def resources(self) -> Resources:
        """Frames and blocks for the next program; a new boot if too few blocks are whole."""
        blocks = self._whole_blocks()
        if len(blocks) < SPARE_BLOCKS:
            self.backend.reset()
            self._prepare()
            blocks = self._whole_blocks()
        owned = {frame for step in self.cleared for frame in step.arguments.values()}
        free = [frame for frame in self._frames(Kind.HOST) if frame not in owned]
        return Resources(free[:FRAMES], blocks[-SPARE_BLOCKS:])

    def _whole_blocks(self) -> list[int]:
        """Blocks of the host that it can give away: not what its program is in."""
        return [block for block in self.machine.blocks(Kind.HOST) if block not in self.backend.programs]

    def _frames(self, kind: Kind) -> list[int]:
        """Frames of the block that boot has split."""
        return [frame for frame, word in self._records((self.split,)) if word & 15 == kind]

    def _records(self, blocks: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Frames of split blocks that are not all the engine's, and their records as words."""
        for block in blocks:
            data = self.backend.physical(
                frame_record_address(self.backend.layout, block), BLOCK // PAGE * WORD
            )
            yield from ((block + n * PAGE, word) for n, word in enumerate(unpack(data)) if word)

    def next(self) -> Judged:
        """One history."""
        resources = self.resources()
        stage = Stage(self.random, resources, bool(self.has_dma))
        program = Program(tuple(stage.steps), tuple(resources.blocks), self.cpus)
        failed = self._set(program)
        if failed:
            return failed
        drawn = conflict(Conflicts(stage, self.mirror.state), self.cpus)
        return self._play(replace(program, steps=(*program.steps, *drawn)))

    def place(self, program: Program) -> Program:
        """The program about blocks that are whole now."""
        blocks = tuple(self.resources().blocks)
        if len(program.blocks) > len(blocks):
            raise CheckFailed(f"a program about {len(program.blocks)} blocks; {len(blocks)} are whole")
        moved = dict(zip(program.blocks, blocks, strict=False))

        def there(value: int) -> int:
            return moved.get(value & -BLOCK, value & -BLOCK) | value & (BLOCK - 1)

        steps = tuple(
            replace(step, arguments={key: there(value) for key, value in step.arguments.items()})
            for step in program.steps
        )
        return Program(steps, tuple(moved.values()), program.cpus)

    def carry_out(self, program: Program) -> Judged:
        """A program, after what the last one has left is cleared away."""
        return self._set(program) or self._play(program)

    def _set(self, program: Program) -> Judged | None:
        """Clear away and set the stage, CPU 0 alone. What memory holds is compared later."""
        self._watched = (self.split, *program.blocks, *self._cleared_blocks())
        self.mirror.watch(self._watched)
        setting = [step for step in program.steps if step.round == 0]
        steps = [*self.cleared, *setting]
        history: History = []
        for first in range(0, len(steps), CHUNK):
            events = self._perform(steps[first : first + CHUNK], 1)
            history += events
            for event in events:
                verdict = self._search().explain([event], self._present)
                if isinstance(verdict, Unexplained):
                    return Judged(program, history, verdict)
                self._advance(verdict.world)
        self._setting = history[len(self.cleared) :]
        return None

    def _play(self, program: Program) -> Judged:
        """All CPUs, on the stage that is set."""
        steps = [step for step in program.steps if step.round]
        history = self._perform([*steps, *tidy(program)], program.cpus)
        changed = self.mirror.refresh()
        verdict = self._search(changed).explain(history, self._present)
        if isinstance(verdict, Explanation):
            self._advance(verdict.world)
            self.mirror.agree()
        self.cleared = list(self._clearing(self._watched))
        return Judged(program, [*self._setting, *history], verdict)

    def _perform(self, steps: list[Step], cpus: int) -> History:
        """Steps on the machine."""
        request = {"cpus": cpus, "program": encode(steps)}
        return decode(steps, self.backend.link.call("history", request, timeout=LIMIT)["history"])

    def _advance(self, world: World) -> None:
        """This world is the present one."""
        self.mirror.advance(world.path)
        self._present = World(self.mirror.state, world.loaded, world.guests)

    def _search(self, changed: Changed | None = None) -> Search:
        """A search that ends with a comparison of memory if it is known what has changed there."""
        return Search(
            lambda world: [] if changed is None else list(self.mirror.differences(changed, world.path)),
            self.mirror.counter_offset,
        )

    def _cleared_blocks(self) -> set[int]:
        """Blocks that the steps which clear away are about."""
        return {
            address & -BLOCK
            for step in self.cleared
            for name, address in step.arguments.items()
            if name in ("frame", "block", "table")
        }

    def _clearing(self, blocks: tuple[int, ...]) -> Iterator[Step]:
        """Calls that take everything back, from the records."""
        kinds = [(block, self.machine.block_record(block).kind) for block in sorted(set(blocks))]
        split = tuple(block for block, kind in kinds if kind == Kind.SPLIT)
        owned = [(frame, unpack_record(word)) for frame, word in self._records(split) if word != Kind.HOST]
        for block, kind in kinds:
            if kind == Kind.DMA:
                yield Step(0, 0, "dma_revoke", {"block": block})
        states = dict(enumerate(self.mirror.look.views["vm"][:: VmWord.COUNT]))
        slots = [slot for slot, state in states.items() if state != VmState.FREE]
        for slot in slots:
            if states[slot] != VmState.DYING:
                yield Step(0, 0, "vm_kill", {"vm": slot})
        for frame, record in owned:
            if record.kind in (Kind.VM_PAGE, Kind.VCPU):
                yield Step(0, 0, "reclaim", {"frame": frame})
        for block, kind in kinds:
            if kind == Kind.VM_PAGE:
                yield Step(0, 0, "reclaim_block", {"block": block})
        for level in (3, 2):
            for frame, record in owned:
                if record.kind == Kind.VM_TABLE and record.level == level:
                    yield Step(0, 0, "table_reclaim", {"table": frame})
        for slot in slots:
            yield Step(0, 0, "vm_destroy", {"vm": slot})

    def check(self) -> None:
        """Everything that holds of a machine at rest, over all its memory."""
        invariants.check(Snapshot.take(self.machine))


def count(counts: Counts, judged: Judged) -> None:
    """Add a history to what has been seen."""
    counts.histories += 1
    last = max(step.round for step in judged.program.steps)
    together = [event for event in judged.history if 0 < event.step.round <= last]
    counts.calls += len(together)
    counts.overlapping += any(
        one.overlaps(other) for one in together for other in together if one.step.cpu < other.step.cpu
    )
    counts.outcomes.update(f"{event.step.name}: {event.outcome}" for event in together)
    if isinstance(judged.verdict, Explanation):
        counts.explained += 1
        counts.reordered += judged.verdict.reordered
        counts.busy += judged.verdict.busy
