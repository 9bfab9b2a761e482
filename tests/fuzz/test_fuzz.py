"""Coverage-guided fuzzing: the kept corpus agrees with the specification, and what is rare is found from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed
from bulkhead.fuzz import campaign
from bulkhead.fuzz.shrink import shrink
from bulkhead.image.variant import Edit

pytestmark = pytest.mark.slow
RECORD = json.loads(campaign.RECORD.read_text())
MOVED = 0.02
"""Part of the edges that an edit of the fake machine may take away before the corpus has to be made anew."""


def test_the_corpus_is_small() -> None:
    assert 0 < sum(path.stat().st_size for path in campaign.inputs()) < 300_000


def test_the_corpus_agrees_with_the_specification_and_covers_what_it_did() -> None:
    covered = {f"{name}: {branch}" for name, branch in campaign.replay(campaign.inputs())}
    assert not set(RECORD["pairs"]) - covered, "make it anew: inv fuzz --minutes 5 --keep"


@pytest.mark.timeout(600)
def test_it_reaches_as_many_edges(tmp_path: Path) -> None:
    outcome = campaign.fuzz([tmp_path, campaign.CORPUS], ["-runs=0"], seconds=300)
    assert not outcome.difference
    assert outcome.edges >= RECORD["edges"] * (1 - MOVED), "make it anew: inv fuzz --minutes 5 --keep"


@pytest.mark.timeout(600)
def test_ten_seconds_more_find_nothing() -> None:
    campaign.main(minutes=10 / 60)


RARE = Edit(
    "engine/core/src/call/host_split.rs",
    "    hw.publish();\n",
    "    if block.0 * table.slot() != 28 {\n        hw.publish();\n    }\n",
)
"""Tables that the host's walkers may not see yet, of two blocks only, with one frame each."""
EXECUTIONS = 4000


@pytest.mark.timeout(900)
def test_a_defect_behind_a_rare_condition_is_found(tmp_path: Path) -> None:
    options = [f"-runs={EXECUTIONS}", "-seed=1"]
    outcome = campaign.fuzz([tmp_path, campaign.CORPUS], options, seconds=600, edits=[RARE])
    assert "Publish()" in outcome.difference
    assert "host_split(block=" in outcome.difference
    assert outcome.data


def test_an_input_is_made_small() -> None:
    data = bytes(range(1, 200))
    assert (
        shrink(data, lambda one: b"\x40" in one and one.find(b"\x80") > one.find(b"\x40") >= 0) == b"\x40\x80"
    )
    assert shrink(b"nothing differs", lambda _: False) == b"nothing differs"


def test_a_replay_names_what_it_cannot_read(tmp_path: Path) -> None:
    campaign.show(campaign.inputs()[0])
    with pytest.raises(campaign.InvalidInput, match="cannot be read"):
        campaign.show(tmp_path / "none")


def test_a_difference_is_shown_with_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told and kept when the library of this process differs."""
    from bulkhead.conformance.oracle import oracle

    monkeypatch.setattr(oracle, "_answer", lambda _reply, _expected: ["another answer"])
    monkeypatch.setattr(campaign, "FOUND", campaign.WORK / "found")
    outcome = campaign.Outcome(1, 1, 1, 1, "long", campaign.inputs()[0].read_bytes())
    text = campaign.told(outcome)
    assert "another answer" in text
    assert "inv fuzz --replay build/fuzz/found/input-" in text
    with pytest.raises(CheckFailed, match="another answer"):
        campaign.show(campaign.FOUND)
