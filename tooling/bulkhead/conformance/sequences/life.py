"""Sequences of steps on one machine, each of which ends with all VMs destroyed and everything back with the host.

Trust label: TOOL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import ALL_FEATURES, MIB, HostBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.sequences.guide import Guide
from bulkhead.conformance.sequences.guide_vcpus import VcpuGuide
from bulkhead.conformance.sequences.propose import ALIVE, Proposer
from bulkhead.conformance.sequences.steps import Step, carry_out
from bulkhead.conformance.testing.machine import Machine
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import VM_SLOTS, CpuWord, Kind, VmState, VmWord

LIFE = 10
"""Sequences on one machine, at most; blocks once split stay so."""
PAGES = ("private page", "offered page", "accepted page")
VCPUS = ("vcpu off", "vcpu", "loaded vcpu")


@dataclass(frozen=True)
class Kit:
    """What a machine on the host backend is made of: RAM as (base, bytes), CPUs, features, blocks not touched since
    boot.
    """

    name: str
    ram: tuple[tuple[int, int], ...]
    cpus: int
    features: int = ALL_FEATURES
    untouched: int = 4

    def build(self) -> Machine:
        """A new machine."""
        backend = HostBackend(self.ram, self.cpus, self.features)
        backend.leave_untouched(self.untouched)
        return Machine(backend)


KITS = (
    Kit("small", ((0x4000_0000, 24 * MIB),), 1),
    Kit("two ranges", ((0x4000_0000, 64 * MIB), (0x4800_0000, 32 * MIB)), 2),
    Kit("large", ((0x8000_0000, 192 * MIB), (0x9000_0000, 128 * MIB)), 8),
    Kit("bare", ((0x4000_0000, 24 * MIB),), 2, features=0),
)
"""Machines of three sizes, the largest of 320 MiB with a hole, and one without DMA windows and random numbers."""


@dataclass
class Life:
    """One machine and all that happens to it."""

    kit: Kit
    random: Random
    seen: Counter[Pair]
    """How often each pair was seen, on other machines too."""
    history: list[Step] = field(default_factory=list)
    calls: int = 0
    sequences: int = 0

    def run(self, calls: int) -> None:
        """Sequences until there are so many calls, or the machine is used up. AssertionError says what differs."""
        machine = self.kit.build()
        try:
            oracle = VcpuOracle(machine)
            oracle.pairs = self.seen
            vcpus = VcpuGuide(oracle, self.random)
            guide = Guide(Proposer(oracle.ghost, self.random), self.seen, self.random, vcpus=vcpus)
            while self.calls < calls and self.sequences < LIFE:
                self._sequence(oracle, guide)
            invariants.check(Snapshot.take(machine))
            invariants.check_reach(machine)
        finally:
            machine.backend.close()

    def _sequence(self, oracle: Oracle, guide: Guide) -> None:
        for _ in range(guide.begin()):
            self._take(oracle, guide.next())
        for step in guide.end():
            self._take(oracle, step)
        back: list[int] = []
        for step in destruction(oracle):
            self._take(oracle, step)
            back += step.arguments.values() if step.name in ("reclaim", "table_reclaim") else ()
        oracle.check()
        check_all_back(oracle, back)
        self.sequences += 1

    def _take(self, oracle: Oracle, step: Step) -> None:
        self.history.append(step)
        carry_out(oracle, step)
        self.calls += 1


def destruction(oracle: Oracle) -> Iterator[Step]:
    """Steps after which there is no VM and no DMA window any more."""
    index, state, layout = oracle.ghost.index, oracle.ghost.state, oracle.machine.layout
    loaded = [cpu for cpu in range(layout.cpus) if state.cpu_word(cpu, CpuWord.LOADED)]
    yield from (Step("vcpu_put", cpu=cpu) for cpu in loaded)
    life = {slot: state.vm_word(slot, VmWord.STATE) for slot in range(VM_SLOTS)}
    yield from (Step("vm_kill", {"vm": slot}) for slot, now in life.items() if now in ALIVE)
    for name in (*PAGES, *VCPUS):
        yield from (
            Step("reclaim", {"frame": layout.ram_base + frame * PAGE}) for frame in index.frames[name]
        )
    for block in index.blocks[Kind.VM_PAGE]:
        yield Step("reclaim_block", {"block": layout.ram_base + block * BLOCK})
    for name in ("table 3", "table 2"):
        yield from (
            Step("table_reclaim", {"table": layout.ram_base + frame * PAGE}) for frame in index.frames[name]
        )
    yield from (Step("vm_destroy", {"vm": slot}) for slot, now in life.items() if now != VmState.FREE)
    for block in index.blocks[Kind.DMA]:
        yield Step("dma_revoke", {"block": layout.ram_base + block * BLOCK})


def check_all_back(oracle: Oracle, frames: Sequence[int]) -> None:
    """AssertionError unless every frame is the host's or the engine's, no VM is left, and `frames`, which have come
    back, are zero.
    """
    __tracebackhide__ = True
    index, machine = oracle.ghost.index, oracle.machine
    left = {
        name: list(bag) for name, bag in index.frames.items() if bag and name not in ("host", "host table")
    }
    whole = (Kind.HOST, Kind.ENGINE, Kind.UNCLEARED, Kind.SPLIT)
    blocks = {kind.name: list(bag) for kind, bag in index.blocks.items() if bag and kind not in whole}
    assert not left and not blocks, f"after all VMs are destroyed there are {left} {blocks}"
    split = len(index.blocks[Kind.SPLIT])
    assert len(index.frames["host table"]) == split and len(index.frames["host"]) == 511 * split
    assert not any(oracle.ghost.state.vm_word(slot, VmWord.STATE) for slot in range(VM_SLOTS))
    dirty = [frame for frame in frames if machine.physical(frame, PAGE).count(0) != PAGE]
    assert not dirty, f"frames that came back are not zero: {', '.join(map(hex, dirty))}"
