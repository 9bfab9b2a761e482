"""The specification's state along with a machine whose memory nobody can read: what the host sees is as specified.

Trust label: TOOL. That is every answer, measurements included; which frames the host reaches, those that a step moved
at once and all from time to time; and parts of the content of what comes back to it, each time others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE
from bulkhead.conformance.backends.caller import Caller
from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.backends.metal import MetalBackend
from bulkhead.conformance.oracle.oracle import DMA_WINDOWS, TAIL
from bulkhead.conformance.oracle.snapshot import WORD, unpack
from bulkhead.conformance.sequences.aim import number
from bulkhead.conformance.sequences.booted import answer_of_vm
from bulkhead.conformance.testing.machine import ABI, Machine, Reply, describe, filler
from bulkhead.conformance.testing.reach import Reach
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Config, Outcome, State, plain, promises, stage2
from bulkhead.spec.state import HOST, Kind, Record, Run, VmWord

FULL_EVERY = 250
"""Steps from one look at everything that the host reaches to the next."""
LOOKED_AT = 256
"""Bytes that are read of a frame that came back; a line is slow."""
SHOWN = 10
"""Differences that a failure lists."""


class BlindOracle:
    """Takes steps on a machine and compares what the host sees of each; AssertionError says what differs."""

    def __init__(self, machine: Machine) -> None:
        """A machine as boot leaves it, all of whose blocks have been touched."""
        assert isinstance(machine.backend, MetalBackend)
        self.machine, self.backend = machine, machine.backend
        self._state = boot_state(machine, self.backend)
        self._caller = Caller(self.backend)
        given = set(self.backend.whole_blocks)
        blocks = (machine.layout.ram_base + n * BLOCK for n in range(machine.layout.blocks))
        self.programs = frozenset(block for block in blocks if block not in given)
        self._last: deque[tuple[str, dict[str, int], int]] = deque(maxlen=TAIL)
        self._due = FULL_EVERY

    @property
    def state(self) -> State:
        """As specified."""
        return self._state

    def write(self, address: int, data: bytes) -> None:
        """The host fills a frame of its own."""
        self.backend.write(address, data)
        first = self.machine.index(address) << stage2.TABLE_SHIFT
        for position, word in enumerate(unpack(data)):
            self._state.ram.set(first + position, word, True)

    def load(self, vcpu: int, cpu: int) -> None:
        """A vCPU is loaded on a CPU, and stays there."""
        self.machine.ok("vcpu_run", cpu=cpu, vcpu=vcpu)
        self._run_state(vcpu, Run.LOADED | cpu)

    def unload(self, vcpu: int, cpu: int) -> None:
        """The vCPU that `load` has loaded is unloaded."""
        self.machine.ok("vcpu_put", cpu=cpu)
        self._run_state(vcpu, Run.RUNNABLE)

    def _run_state(self, vcpu: int, state: int) -> None:
        frame = self.machine.index(vcpu)
        self._state.frame.set(frame, self._state.frame[frame]._replace(parent=state), True)

    def step(self, name: str, *, cpu: int = 0, **arguments: int) -> Reply:
        """A call of the host."""
        __tracebackhide__ = True
        self._last.append((name, arguments, cpu))
        reply = self.machine.call(name, cpu=cpu, **arguments)
        expected = CALLS[name](self._state, **arguments)
        self._judge(answer(reply, expected), expected)
        return reply

    def vm_step(self, name: str, vm: int, x1: int, x2: int = 0, x3: int = 0, *, cpu: int = 0) -> Next:
        """The call of vCPU 0 of a VM whose program is that of `caller`."""
        __tracebackhide__ = True
        arguments = dict(zip(ARGUMENTS[name], (vm, x1, x2, x3), strict=True))
        self._last.append((name, arguments, cpu))
        context = self.machine.address(number(self._state.vm_word(vm, VmWord.VCPU)) - 1)
        sent = (ABI.call(name).id, x1, x2, x3, filler(4))
        made = self._caller.call(cpu, context, sent)
        expected = STEPS[name](self._state, **arguments)
        self._judge(answer_of_vm(sent, made, expected), expected)
        return made.seen

    def first_touch(self, block: int, *, cpu: int = 0) -> None:
        """All blocks have been touched when the backend starts."""
        raise AssertionError(f"block {block:#x} has been touched")

    def _judge(self, wrong: Iterable[str], expected: Outcome) -> None:
        __tracebackhide__ = True
        frames = list(moved(expected))
        self._state = plain.commit(expected)
        self._fail_if([*wrong, *(text for frame in frames for text in self._difference(frame))])
        self._due -= 1
        if self._due <= 0:
            self.check()

    def _difference(self, frame: int) -> Iterator[str]:
        """What the host sees of a frame that has moved: whether it is there, and what is in it."""
        address, reached = self.machine.address(frame), self._reached(frame)
        if self.backend.survey(address, PAGE, 1) != [reached]:
            yield f"the host {'does not reach' if reached else 'reaches'} {address:#x}"
        elif reached and promises.owner(self._state, frame) == HOST:
            start = self._due * LOOKED_AT % PAGE
            first = stage2.word(frame, start // WORD)
            content = tuple(self._state.ram[first + position] for position in range(LOOKED_AT // WORD))
            if unpack(self.backend.memory(address + start, LOOKED_AT)) != content:
                yield f"the host finds in {address:#x} what is not specified"

    def _reached(self, frame: int) -> bool:
        return promises.flat_walk(self._state, self._state.host_entry, frame).valid is True

    def check(self) -> None:
        """Everything that the host reaches is compared."""
        __tracebackhide__ = True
        self._due = FULL_EVERY
        blocks = range(self.machine.layout.blocks)
        split = [self.machine.address(n << 9) for n in blocks if self._state.block[n].kind == Kind.SPLIT]
        reached = Reach.take(self.backend, split).reached
        self._fail_if(
            [
                f"the host {'reaches' if there else 'does not reach'} {address:#x}"
                for address, there in reached.items()
                if there != self._reached(self.machine.index(address))
            ]
        )

    def _fail_if(self, differences: list[str]) -> None:
        __tracebackhide__ = True
        if differences:
            *earlier, (name, arguments, cpu) = self._last or [("nothing", {}, 0)]
            lines = [describe(name, arguments, cpu), *differences[:SHOWN]]
            if earlier:
                lines += ["the calls before it:", *(f"  {describe(*call)}" for call in earlier)]
            raise AssertionError("\n  ".join(lines))


def answer(reply: Reply, expected: Outcome) -> Iterator[str]:
    """What differs in the answer of a call of the host."""
    got = (reply.regs[0], reply.detail, tuple(reply.results.values()))
    if got != (expected.status, expected.detail, expected.results):
        wanted = ABI.status_name(number(expected.status))
        yield f"answers {reply}; specified is {wanted} {expected.detail or ''} {expected.results or ''}"


def moved(expected: Outcome) -> Iterator[int]:
    """Frames whose record a step changes one by one, and the first of blocks whose record it changes."""
    if expected.success is True:
        frames, blocks = expected.committed.frame, expected.committed.block
        if isinstance(frames, plain.PlainMap) and isinstance(blocks, plain.PlainMap):
            yield from dict.fromkeys((*frames.changed(), *(n << 9 for n in blocks.changed())))


def boot_state(machine: Machine, backend: MetalBackend) -> State:
    """What boot leaves, as far as the host can tell: what it reaches is its own, all else the engine's."""
    layout = machine.layout
    has_dma = machine.ok("features").results["features"] & DMA_WINDOWS
    config = Config(layout.ram_base, layout.frames, layout.cpus, has_dma)
    own = [n for n, there in enumerate(backend.survey(layout.ram_base, BLOCK, layout.blocks)) if there]
    split = (layout.split_block - layout.ram_base) // BLOCK
    table = split * FRAMES_IN_BLOCK
    frames = {table + offset: plain.pack(HOST) for offset in range(1, FRAMES_IN_BLOCK)}
    frames[table] = plain.pack(Record(Kind.HOST_TABLE, parent=split))
    entries = {n: number(stage2.block(config, n)) for n in own}
    leaves = {
        number(stage2.word(table, offset)): number(stage2.page(config, table + offset))
        for offset in range(1, FRAMES_IN_BLOCK)
    }
    return plain.from_words(
        config,
        {**dict.fromkeys(own, plain.pack(HOST)), split: plain.pack(Record(Kind.SPLIT))},
        frames,
        {**entries, split: number(stage2.table(config, table))},
        {},
        {},
        leaves,
    )
