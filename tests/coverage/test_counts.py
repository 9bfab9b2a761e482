"""What counts as covered, and that gaps, and explanations of what is none, are noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkhead.coverage import explained, host
from bulkhead.coverage.counts import FileCounts, parse
from bulkhead.coverage.explained import Explanation
from bulkhead.errors import InvalidInput

SOURCE = """\
fn chosen(a: bool) -> u64 {
    if a { 1 } else { 2 }
}
fn never() {
    loop {}
}
"""
LCOV = "SF:/s/one.rs\nDA:1,3\nDA:2,3\nDA:3,3\nDA:4,0\nDA:5,0\nDA:6,0\nend_of_record\nSF:/other.rs\nDA:1,1\n"
BRANCH = [2, 8, 2, 9]


def document(*branches: list[int]) -> str:
    """What llvm-cov says of branches."""
    return json.dumps({"data": [{"files": [{"filename": "/s/one.rs", "branches": list(branches)}]}]})


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory with the source."""
    (tmp_path / "one.rs").write_text(SOURCE)
    return tmp_path


def counted(*branches: list[int]) -> dict[str, FileCounts]:
    """The counts of a run."""
    return parse(LCOV, document(*branches), Path("/s"))


def test_instances_of_generic_code_count_once() -> None:
    counts = counted([*BRANCH, 3, 0, 0, 0, 4], [*BRANCH, 0, 2, 1, 0, 4])
    assert counts["one.rs"].branches == {(2, 8, 2, 9): (3, 2)}
    assert list(counts) == ["one.rs"]


NEVER = Explanation("one.rs", "fn never() {", "not called", lines=3)
ONE_WAY = Explanation("one.rs", "if a { 1 } else { 2 }", "callers ask", condition="a", never="false")


def test_gaps_are_told_with_their_reason(sources: Path) -> None:
    missing, wrong = explained.explain(counted([*BRANCH, 3, 0, 0, 0, 4]), sources, [NEVER, ONE_WAY])
    assert wrong == []
    assert [(gap.line, gap.why) for gap in missing["one.rs"]] == [
        (4, "not called"), (5, "not called"), (6, "not called"), (2, "callers ask"),
    ]  # fmt: skip


def test_gaps_that_nobody_explains_are_problems(sources: Path) -> None:
    counts = counted([*BRANCH, 3, 0, 0, 0, 4])
    missing, wrong = explained.explain(counts, sources, [NEVER])
    problems = host.verdict(counts, missing, wrong)
    assert "one.rs:2: `a` is never false" in problems
    assert "50.00% of the lines are covered, which is less than 98%" in problems
    assert "50.00% of the branches are covered, which is less than 98%" in problems


@pytest.mark.parametrize(
    "explanation",
    [
        ONE_WAY,
        Explanation("one.rs", "fn never() {", "", lines=2 + 2),
        Explanation("one.rs", "fn chosen(a: bool) -> u64 {", ""),
        Explanation("one.rs", "fn gone() {", ""),
        Explanation("two.rs", "fn never() {", ""),
    ],
    ids=["covered by now", "too many lines", "covered", "no such line", "no such file"],
)
def test_an_explanation_of_no_gap_is_a_problem(sources: Path, explanation: Explanation) -> None:
    counts = counted([*BRANCH, 3, 2, 0, 0, 4])
    missing, wrong = explained.explain(counts, sources, [explanation])
    assert any("does not fit" in problem for problem in host.verdict(counts, missing, wrong))


def test_explanations_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "explained.toml"
    path.write_text('[[core]]\nfile = "a"\n')
    with pytest.raises(InvalidInput, match="explanations of core"):
        explained.load("core", path)
