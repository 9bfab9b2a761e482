"""Random steps of vCPUs on the fake machine: every pair is seen, and what is wrong is found, shortened and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.conformance.oracle import vcpus
from bulkhead.conformance.sequences import conform, regressions
from bulkhead.conformance.sequences.found import Plan
from bulkhead.errors import CheckFailed
from bulkhead.report import results
from bulkhead.spec.calls import running, tested
from bulkhead.spec.words import Word

CALLS_HERE = 24_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_steps_of_vcpus_are_as_specified_and_show_every_pair() -> None:
    plan = Plan(conform.VCPUS, CALLS_HERE, seed=1, jobs=2)
    found = conform.show(plan)
    conform.check(plan, found)
    assert found.calls >= CALLS_HERE
    (kept,) = [one for one in results.read_all() if (one.kind, one.variant) == ("conform", conform.VCPUS)]
    assert kept.data["pairs"].keys() == {str(pair) for pair in vcpus.reachable()}


def never_extended(iss: Word, reply: Word) -> Word:
    """A load that takes the reply as it is."""
    return reply


@pytest.mark.slow
def test_a_wrong_specification_is_found_shortened_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path / "results"))
    plan = Plan(conform.VCPUS, 20_000, seed=2)
    with monkeypatch.context() as patched:
        patched.setattr(running, "loaded_value", never_extended)
        found = conform.show(plan)
        with pytest.raises(CheckFailed, match="of frame"):
            conform.check(plan, found, place=tmp_path)
        (path,) = tmp_path.glob("*.json")
        _, kept = regressions.load(path)
        assert len(kept) < 16 and kept[-1]["step"] == "vcpu_run"
        assert regressions.replay_file(path)
    assert not regressions.replay_file(path)


def test_every_step_has_pairs_here_or_a_reason_why_not() -> None:
    shown = {pair.step for pair in vcpus.reachable()} | {pair.step for pair in vcpus.ELSEWHERE}
    assert shown == tested.TESTED.keys()
