"""Random sequences on the fake machine: every pair is seen, and what is wrong is found, shortened and kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle import coverable, oracle
from bulkhead.conformance.sequences import conform, conform_host, regressions, soak, steps
from bulkhead.conformance.sequences.found import Found, Plan
from bulkhead.conformance.sequences.life import KITS
from bulkhead.conformance.sequences.steps import Step
from bulkhead.conformance.testing.machine import find
from bulkhead.errors import CheckFailed, InvalidInput, MachineError
from bulkhead.inspect.records import Kind
from bulkhead.report import baselines, results
from bulkhead.spec import CALLS, Outcome, pairs
from bulkhead.spec.calls import running, tested
from bulkhead.spec.pairs import Pair
from bulkhead.spec.words import Word

KEPT = sorted((Path(__file__).parents[1] / "regressions").glob("*.json"))
CALLS_HERE = 32_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_sequences_are_as_specified_and_see_every_pair() -> None:
    plan = Plan("host", CALLS_HERE, seed=1, jobs=2)
    found = conform.show(plan)
    conform.check(plan, found)
    assert found.calls >= CALLS_HERE and found.sequences > CALLS_HERE // 120
    assert set(found.machines) == {kit.name for kit in KITS}
    kept = results.read(results.directory() / "conform-host.reduced.json")
    assert kept.current and kept.reduced and kept.data["pairs"].keys() == {str(pair) for pair in coverable.wanted()}


def test_machines_are_of_three_sizes_the_largest_with_a_hole() -> None:
    sizes = []
    for kit in KITS:
        machine = kit.build()
        sizes.append((machine.layout.frames, len(kit.ram)))
        machine.backend.close()
    assert len(set(sizes)) == 3
    assert max(sizes)[0] >= 1 << 16 and max(sizes)[1] == 2


@pytest.mark.slow
def test_the_full_run_is_about_this_engine() -> None:
    claimed = baselines.claimed(conform.KIND)
    assert claimed["calls"] >= conform.FULL and claimed["sequences"] >= conform.SEQUENCES
    assert claimed["successes"] >= conform.SUCCESSES * claimed["calls"]
    assert claimed["pairs"] == len(coverable.wanted())


@pytest.mark.slow
def test_a_long_run_goes_on_where_it_was_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    monkeypatch.setattr(soak, "PARTS", 2)
    plans: list[Plan] = []

    def show(plan: Plan) -> Found:
        plans.append(plan)
        if len(plans) == 2:
            raise KeyboardInterrupt
        return conform_host.run(replace(plan, jobs=1), lambda _: None)

    monkeypatch.setattr(conform, "show", show)
    with pytest.raises(KeyboardInterrupt):
        soak.main(4000, 7, directory=tmp_path)
    found = soak.main(4000, 7, directory=tmp_path)
    assert [plan.seed for plan in plans] == [14, 15, 15]
    assert found.calls >= 4000 and found.sequences > 30 and found.successes > 1200
    assert soak.main(4000, 7, directory=tmp_path) == found and len(plans) == 3


def test_what_was_not_seen_is_told() -> None:
    plan, found = Plan("host", 8000, seed=1), Found(calls=8000)
    found.pairs.update({pair: 1 if "SUCCESS" in pair.label else 4 for pair in coverable.wanted()})
    assert conform.shortcomings(plan, found) == ["only 10% of the calls succeed"]
    assert conform.shortcomings(replace(plan, calls=100), found) == []
    found.pairs[Pair("vm_kill", "SUCCESS")] += 1000
    assert conform.shortcomings(plan, found) == []
    del found.pairs[Pair("map", "8. NEEDS_SPLIT(3)")]
    found.pairs[Pair("map", "SUCCESS")] = 1
    assert conform.shortcomings(plan, found) == [
        "seen less than 1 times: map: 8. NEEDS_SPLIT(3) (0)", "said to be out of reach, but seen: map: SUCCESS",
    ]  # fmt: skip
    assert conform.often(replace(plan, calls=1_000_000)) == 500
    with pytest.raises(InvalidInput, match="no backend 'abacus'"):
        conform.main("abacus")


def test_what_single_steps_do_not_show_is_a_pair_and_has_a_test_that_does() -> None:
    listed = {str(pair) for pair in (*coverable.wanted(), *coverable.ELSEWHERE, *pairs.unreachable())}
    assert listed == {str(pair) for pair in pairs.everything()}
    assert {*coverable.ELSEWHERE_ON_QEMU} < {*pairs.every_reachable()}
    for elsewhere in {*coverable.ELSEWHERE.values(), *coverable.ELSEWHERE_ON_QEMU.values()}:
        path, name = elsewhere.test.split("::")
        assert re.search(rf"^def {name}\(", (Path(__file__).parents[2] / path).read_text(), re.M), elsewhere


def test_every_step_of_a_vcpu_and_every_lock_is_among_the_pairs() -> None:
    steps = {pair.step for pair in coverable.of_vcpus()} | {pair.step for pair in coverable.ELSEWHERE}
    assert steps == tested.TESTED.keys()
    assert {pairs.busy(name) for name in tested.LOCKED_CALLS} < set(coverable.owned())


def never_extended(iss: Word, reply: Word) -> Word:
    """A load that takes the reply as it is."""
    return reply


@pytest.mark.slow
def test_a_wrong_step_of_a_vcpu_is_found_shortened_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    plan = Plan("host", 20_000, seed=2)
    with monkeypatch.context() as patched:
        patched.setattr(running, "loaded_value", never_extended)
        found = conform.show(plan)
        with pytest.raises(CheckFailed, match="of the vCPU at 0x"):
            conform.check(plan, found, place=tmp_path)
        (path,) = tmp_path.glob("*.json")
        _, kept = regressions.load(path)
        assert len(kept) < 16 and kept[-1]["step"] == "vcpu_run"
        assert regressions.replay_file(path)
    assert not regressions.replay_file(path)


def specify(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Outcome], Outcome]) -> None:
    """The specification of a call is another one, for generator and oracle."""
    wrong = CALLS | {name: lambda state, **arguments: change(CALLS[name](state, **arguments))}
    monkeypatch.setattr(oracle, "CALLS", wrong)
    monkeypatch.setattr(steps, "CALLS", wrong)


def without_the_record(outcome: Outcome) -> Outcome:
    """The record of the page stays as it was."""
    if outcome.success is True:
        outcome.committed.frame._changed.clear()  # type: ignore[attr-defined]  # a PlainMap
    return outcome


def busy(outcome: Outcome) -> Outcome:
    """Another error where the VM is not there."""
    return replace(outcome, status=5) if len(outcome.needs) == 2 and outcome.success is False else outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "change", "message", "most"),
    [("map", without_the_record, "record of frame", 5), ("vm_kill", busy, "answers BAD_STATE", 1)],
)
def test_a_wrong_specification_is_found_shortened_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, change: Any, message: str, most: int
) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    plan = Plan("host", 20_000, seed=3)
    with monkeypatch.context() as patched:
        specify(patched, call, change)
        found = conform.show(plan)
        with pytest.raises(CheckFailed, match=message) as failure:
            conform.check(plan, found, place=tmp_path)
        (path,) = tmp_path.glob("*.json")
        assert path.name.startswith(f"{call}_") and f"inv conform --replay {path}" in str(failure.value)
        kept = json.loads(path.read_text())["steps"]
        assert 1 <= len(kept) <= most and kept[-1]["step"] == call
        again = regressions.replay_file(path)
        assert regressions.failure(again) == regressions.failure(found.failures[0].message)
        with pytest.raises(CheckFailed, match=message):
            conform.main(replay=str(path))
    conform.main(replay=str(path))


def test_an_engine_that_panics_is_told_with_the_call_that_it_got(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    call, kill = HostBackend.call, find("vm_kill").id

    def panics(self: HostBackend, cpu: int, registers: Sequence[int]) -> tuple[int, ...]:
        if registers[0] == kill and registers[1] == 2:
            raise MachineError("the engine panicked: too much")
        return call(self, cpu, registers)

    monkeypatch.setattr(HostBackend, "call", panics)
    found = conform_host.run(Plan("host", 3000, seed=5), lambda _: None)
    (failure,) = found.failures
    assert failure.message.splitlines()[0].startswith("vm_kill(vm=0x2)")
    assert "the engine panicked: too much" in failure.message and len(failure.steps) == 1
    assert regressions.replay_file(conform.kept_failure(failure, tmp_path)) == failure.message


@pytest.mark.raw_memory
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_once_failed_does_not_any_more(machine: Machine, path: Path) -> None:
    kit, kept = regressions.load(path)
    own = kit.build() if machine.backend.name == "host" else machine
    taken = [step for step in regressions.decoded(own, kept) if own is not machine or step.name in CALLS]
    try:
        assert regressions.replay(own, taken) == ""
    finally:
        machine.needs_reset = True
        if own is not machine:
            own.backend.close()


def test_steps_are_the_same_after_they_were_kept(tmp_path: Path) -> None:
    kit = KITS[1]
    machine = kit.build()
    whole, split = machine.blocks(Kind.HOST)[-2], machine.layout.split_block
    machine.backend.close()
    given = [
        Step("host_split", {"block": whole, "table": split + 0x3000}, cpu=1),
        Step("vm_kill", {"vm": 3}, locked=True),
        Step("map", {"vm": 0, "ipa": 0x4000_0000, "frame": (1 << 64) - 1, "mode": 1}),
    ]
    path = regressions.save(tmp_path, "three", kit, given, "")
    assert "host 1 + 0x0" in path.read_text() and "split 0 + 0x3000" in path.read_text()
    loaded, kept = regressions.load(path)
    other = loaded.build()
    assert regressions.decoded(other, kept) == given
    other.backend.close()
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="no sequence of steps"):
        regressions.load(path)
