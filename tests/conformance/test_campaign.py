"""The booted engine under a host that tries everything: what differs is noticed, with the way to see it again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from bulkhead.conformance.oracle import coverable, oracle
from bulkhead.conformance.sequences import blind, booted, campaign, conform
from bulkhead.conformance.sequences.second_touch import SECOND_TOUCH
from bulkhead.errors import CheckFailed, MachineError
from bulkhead.image.variant import Edit, build_variant
from bulkhead.report import baselines, results
from bulkhead.spec import CALLS, STEPS, Outcome, State, Transaction, pairs
from bulkhead.spec.calls import DEFINITIONS, STEP_DEFINITIONS
from bulkhead.spec.calls.frames import need_frame, withdraw_from_host
from bulkhead.spec.state import VmState, VmWord
from bulkhead.spec.transaction import Refused, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("campaign")]
MANY, SHORT = 5000, 700
"""All pairs but a few of the rarest are seen by then; the full count is `inv conform`'s."""


def test_every_step_is_the_specified_one() -> None:
    findings = campaign.main("qemu", calls=MANY, seed=1)
    assert findings.calls >= MANY
    assert findings.successes > 0.3 * findings.calls
    assert len(findings.missing) <= 20, findings.missing
    assert findings.counts[SECOND_TOUCH] == len(findings.boards)
    assert {board.smmu for board in findings.boards} == {False, True}
    assert set(findings.counts) <= set(pairs.every_reachable()), "what is proved to be unreachable was seen"


def test_the_full_run_was_about_this_engine() -> None:
    claimed = baselines.claimed(campaign.KEPT)
    assert claimed["calls"] >= campaign.ALL and claimed["missing"] == 0
    assert claimed["pairs"] == len(pairs.every_reachable()) - len(coverable.ELSEWHERE_ON_QEMU)


def test_every_backend_is_run_whatever_becomes_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    run_on = []

    def main(backend: str, **_: Any) -> None:
        run_on.append(backend)
        if backend == "qemu":
            raise MachineError("it burns")

    monkeypatch.setattr(campaign, "main", main)
    monkeypatch.setattr(conform, "check", lambda plan, found, record: run_on.append(plan.backend))
    monkeypatch.setattr(conform, "show", lambda plan: None)
    with pytest.raises(CheckFailed, match=r"^qemu: it burns"):
        conform.main("all")
    assert run_on == ["host", "qemu", "metal"]
    with pytest.raises(MachineError):
        conform.main("qemu")


def test_what_the_host_sees_over_a_line_is_as_specified() -> None:
    findings = campaign.main("metal", calls=SHORT, seed=1)
    assert findings.calls >= SHORT
    assert findings.successes > 0.3 * findings.calls
    assert len(findings.missing) <= 40, findings.missing
    assert {pair.step for pair in findings.counts} == {*CALLS, *STEPS} - {"first_touch"}


def test_what_the_host_sees_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A specification by which a page that comes back stays out of the host's reach."""

    def stays_away(t: Transaction, frame: Any) -> None:
        DEFINITIONS["reclaim"](t, frame)
        with suppress(Refused):
            withdraw_from_host(t, need_frame(t, frame, 1))

    def call(state: State, **arguments: Any) -> Outcome:
        return run(state, partial(stays_away, **arguments))

    monkeypatch.setitem(blind.CALLS, "reclaim", call)
    with pytest.raises(CheckFailed, match=r"reclaim\(frame=.*\n +the host reaches 0x") as caught:
        campaign.on_metal(300, seed=2)
    assert "inv conform --backend metal --calls 300 --seed 2" in str(caught.value)


def test_thorough_mode_compares_everything_after_each_step() -> None:
    assert campaign.on_qemu(40, seed=2, thorough=True).calls >= 40


def otherwise(
    definition: Callable[..., None], change: Callable[[Transaction, Any], None]
) -> Callable[..., Outcome]:
    """A specification that says something else beside."""

    def defined(t: Transaction, **arguments: Any) -> None:
        definition(t, **arguments)
        change(t, arguments["vm"])

    def call(state: State, **arguments: Any) -> Outcome:
        return run(state, partial(defined, **arguments))

    return call


def killed_otherwise(t: Transaction, vm: Any) -> None:
    """A VM that is killed is free at once."""
    t.set_vm(vm, VmWord.STATE, VmState.FREE)


def shares_counted(t: Transaction, vm: Any) -> None:
    """A VM that shares a page is flagged."""
    t.set_vm(vm, VmWord.FLAGS, 1)


def test_a_call_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(oracle.CALLS, "vm_kill", otherwise(DEFINITIONS["vm_kill"], killed_otherwise))
    with pytest.raises(CheckFailed, match=r"vm_kill\(vm=") as caught:
        campaign.on_qemu(600, seed=3)
    assert "specified is" in str(caught.value)
    assert "inv conform --backend qemu --calls 600 --seed 3" in str(caught.value)


def test_a_step_of_a_vm_that_differs_is_noticed_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path))
    monkeypatch.setitem(booted.STEPS, "share", otherwise(STEP_DEFINITIONS["share"], shares_counted))
    with pytest.raises(CheckFailed, match=r"share\(vm="):
        campaign.main("qemu", calls=600, seed=4)
    (kept,) = results.read_all()
    assert (kept.reduced, kept.command) == (True, "inv conform --backend qemu --calls 600 --seed 4")
    assert "share(vm=" in kept.data["failures"][0]


def test_an_engine_that_zeroes_a_block_twice_is_noticed() -> None:
    """One that does not look again, once it has the lock, whether another CPU was faster."""
    check = "if hw.block_record(block).kind() != Kind::UNCLEARED {"
    wrong = build_variant([Edit("engine/core/src/call/first_touch.rs", check, "if false {")])
    with pytest.raises(CheckFailed, match="zeroes what the host has written meanwhile"):
        campaign.on_qemu(1, seed=5, images=wrong)


def test_a_pair_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path))
    findings = campaign.Findings("qemu", 1, {SECOND_TOUCH: "why"})
    findings.counts.update({pair: 1 for pair in pairs.every_reachable()[1:] if pair != SECOND_TOUCH})
    path = campaign.conclude(findings, 100, 1.0)
    told = {name for name, why in results.read(path).data["undecided"].items() if why != campaign.BESIDE}
    assert told == {str(SECOND_TOUCH)}
    with pytest.raises(CheckFailed, match=r"never seen: host_split: 0. BUSY\n"):
        campaign.conclude(findings, campaign.ALL, 1.0)
