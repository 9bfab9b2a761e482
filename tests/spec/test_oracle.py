"""The engine against its specification: random sequences of calls, and an oracle that does notice differences."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle import invariants, oracle
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.sequences.guide import Guide
from bulkhead.conformance.sequences.life import KITS
from bulkhead.conformance.sequences.propose import NAMES, Proposer
from bulkhead.conformance.sequences.scenes import SCENES, Scene
from bulkhead.conformance.sequences.steps import carry_out
from bulkhead.spec import CALLS

Build = Callable[..., Vm]
RAM = 0x4000_0000


class Calls(RuleBasedStateMachine):
    """Any steps in any order; Hypothesis shortens a sequence that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = KITS[1].build()
        self.oracle = VcpuOracle(self.machine)

    @rule(choices=st.randoms(use_true_random=False), name=st.sampled_from(NAMES))
    def sensible(self, choices: random.Random, name: str) -> None:
        """A step that makes sense, if there is any of that name."""
        step = Proposer(self.oracle.ghost, choices).likely(name)
        if step is not None:
            carry_out(self.oracle, step)

    @rule(choices=st.randoms(use_true_random=False), name=st.sampled_from(NAMES))
    def odd(self, choices: random.Random, name: str) -> None:
        """A step that nearly makes sense."""
        carry_out(self.oracle, Proposer(self.oracle.ghost, choices).unlikely(name))

    @rule(choices=st.randoms(use_true_random=False), scene=st.sampled_from([scene for scene, _ in SCENES]))
    def scene(self, choices: random.Random, scene: Scene) -> None:
        """A state that is seldom reached."""
        for step in scene(Proposer(self.oracle.ghost, choices)):
            carry_out(self.oracle, step)

    @invariant()
    def records_and_tables_agree(self) -> None:
        """After every step."""
        invariants.check(Snapshot.take(self.machine))

    def teardown(self) -> None:
        """Tables reach what records grant; the next example has a machine of its own."""
        self.oracle.check()
        invariants.check_reach(self.machine)
        self.machine.backend.close()


Calls.TestCase.settings = settings(max_examples=8, stateful_step_count=25)
# Shortening a sequence that fails takes up to five minutes.
TestCalls = pytest.mark.slow(pytest.mark.timeout(900)(Calls.TestCase))


@pytest.mark.raw_memory
@pytest.mark.parametrize("seed", range(3))
def test_random_calls_on_any_backend(machine: Machine, seed: int) -> None:
    choices = random.Random(f"any backend {seed}")
    oracle_ = Oracle(machine)
    guide = Guide(Proposer(oracle_.ghost, choices), oracle_.pairs, choices, CALLS)
    for _ in range(100):
        carry_out(oracle_, guide.next())
    assert len(oracle_.covered) > 15


@pytest.fixture
def scene(machine: Machine, vm: Build) -> Iterator[Oracle]:
    """A VM with a page, and an oracle for what comes next."""
    vm().page(RAM)
    yield Oracle(machine)


@pytest.mark.raw_memory
def test_the_oracle_follows_any_backend(scene: Oracle) -> None:
    machine = scene.machine
    frame = machine.take()
    assert scene.step("map", vm=0, ipa=RAM + PAGE, frame=frame, mode=1).status == "SUCCESS"
    assert scene.step("map", vm=0, ipa=RAM + PAGE, frame=frame, mode=1).status == "NOT_OWNED"
    assert scene.step("vm_kill", vm=0).status == "SUCCESS"
    assert scene.step("reclaim", frame=frame).status == "SUCCESS"
    assert scene.covered == {
        ("map", "SUCCESS"), ("map", "11. NOT_OWNED(3)"), ("vm_kill", "SUCCESS"), ("reclaim", "SUCCESS"),
    }  # fmt: skip


def otherwise(name: str, change: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """A specification in which the outcome of one call is another."""
    return CALLS | {name: lambda state, **arguments: change(CALLS[name](state, **arguments))}


WRONG = {
    "another answer": ("answers SUCCESS", lambda outcome: replace(outcome, status=5)),
    "a word more": (
        "state of VM 0 is 0x3; .* 0x1",
        lambda outcome: replace(outcome, committed=outcome.before),
    ),
}


@pytest.mark.raw_memory
@pytest.mark.parametrize(("message", "change"), WRONG.values(), ids=WRONG.keys())
def test_the_oracle_notices(
    scene: Oracle, monkeypatch: pytest.MonkeyPatch, message: str, change: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(oracle, "CALLS", otherwise("vm_kill", change))
    with pytest.raises(AssertionError, match=message):
        scene.step("vm_kill", vm=0)


@pytest.mark.host
def test_the_oracle_notices_a_missing_event(scene: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_last(outcome: Any) -> Any:
        return replace(outcome, events=outcome.events[:-1])

    monkeypatch.setattr(oracle, "CALLS", otherwise("map", without_last))
    with pytest.raises(AssertionError, match=r"specified is None"):
        scene.step("map", vm=0, ipa=RAM + PAGE, frame=scene.machine.take(), mode=0)


@pytest.mark.host
@pytest.mark.parametrize(
    "what",
    [
        "host leaf",
        "vm leaf",
        "vm block",
        "record",
        "block record",
        "host block",
        "device block",
        "vm's block",
    ],
)
def test_a_single_wrong_word_violates_the_invariants(machine: Machine, vm: Build, what: str) -> None:
    one = vm()
    page, layout = one.page(RAM), machine.layout
    index, number = machine.index(page), (one.block(RAM + BLOCK) - layout.ram_base) // BLOCK
    address = {
        "host leaf": machine.host_table(page) + index % 512 * 8,
        "vm leaf": one.tables[3, RAM],
        "vm block": one.tables[2, RAM] + 8,
        "record": layout.frame_records + index * 8,
        "block record": layout.block_records + number * 8,
        "host block": layout.host_level2,
        "device block": layout.dma_level2,
        "vm's block": layout.host_level2 + number * 8,
    }[what]
    invariants.check(Snapshot.take(machine))
    backend = machine.backend
    assert isinstance(backend, HostBackend)
    right = backend.physical(address, 8)
    backend.poke(address, (int.from_bytes(right, "little") ^ 1 << 21).to_bytes(8, "little"))
    if what in ("record", "block record"):
        backend.poke(address, (1).to_bytes(8, "little"))
    with pytest.raises(AssertionError, match="do not agree"):
        invariants.check(Snapshot.take(machine))
    backend.poke(address, right)


@pytest.mark.host
@pytest.mark.parametrize("whose", ["the host", "devices", "VM 0"])
def test_a_leaf_too_many_is_reach_that_no_record_grants(machine: Machine, vm: Build, whose: str) -> None:
    one = vm()
    page, layout, backend = one.page(RAM), machine.layout, machine.backend
    number = (machine.take_block() - layout.ram_base) // BLOCK
    address, leaf = {
        "the host": (machine.host_table(page) + machine.index(page) % 512 * 8, page | 0x7FF),
        "devices": (layout.dma_level2 + 8 * number, layout.ram_base + number * BLOCK | 0x7FD),
        "VM 0": (one.tables[3, RAM] + 8, machine.take() | 0x7FF),
    }[whose]
    invariants.check_reach(machine)
    assert isinstance(backend, HostBackend)
    backend.poke(address, leaf.to_bytes(8, "little"))
    with pytest.raises(AssertionError, match=whose):
        invariants.check_reach(machine)
    backend.poke(address, bytes(8))
