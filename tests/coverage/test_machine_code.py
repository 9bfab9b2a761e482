"""Counting of executed machine code: branches, ways that only lead to a panic, explanations."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.coverage import el2
from bulkhead.coverage.el2 import Explanation
from bulkhead.coverage.machine_code import FileCounts, Gap
from bulkhead.errors import InvalidInput
from bulkhead.trace import code
from bulkhead.trace.sources import Place

NOP, RET = code.NOP, code.RET
B_NE, B_EQ, CBZ, CBNZ, TBZ, TBNZ = 0x54000001, 0x54000000, 0xB4000000, 0xB5000000, 0x36000000, 0x37000000
CMP_5, CMP_6 = 0xF100141F, 0xF100181F
PLACE = Place("arch/src/tlb.rs", 5)


def to(branch: int, words: int) -> int:
    """The conditional branch with a target so many words on."""
    return branch | (words & 0x7FFFF) << 5


@pytest.mark.parametrize("word", [B_NE, B_EQ, CBZ, CBNZ, 0x34000003, TBZ, TBNZ])
def test_conditional_branches_are_recognised(word: int) -> None:
    assert code.is_conditional(word)


@pytest.mark.parametrize("word", [NOP, RET, 0x14000002, 0x94000002, CMP_5, 0xD61F0000])
def test_others_are_not(word: int) -> None:
    assert not code.is_conditional(word)


def test_targets() -> None:
    assert code.target(to(B_NE, 3), 10) == 13
    assert code.target(to(CBZ, -3), 10) == 7
    assert code.target(TBZ | (-2 & 0x3FFF) << 5, 10) == 8
    assert code.target(0x14000000 | 5, 10) == 15
    assert code.target(0x97FFFFFF, 10) == 9
    assert code.target(RET, 10) is None


def test_copies_ask_the_same_in_either_direction() -> None:
    first, straight = code.condition([CMP_5, to(B_EQ, 4)], 1)
    second, turned = code.condition([CMP_5, NOP, to(B_NE, 9)], 2)
    assert first == second
    assert straight != turned
    assert code.condition([CMP_6, to(B_EQ, 4)], 1)[0] != first
    assert code.condition([CBZ], 0)[0] == code.condition([CBNZ | 7], 0)[0]
    assert code.condition([TBZ], 0)[0] != code.condition([TBZ | 1 << 19], 0)[0]


def test_what_only_leads_to_a_panic() -> None:
    """0: branch to 3, or on; 1: returns; 3: calls the panic, which is at 5."""
    words = [to(CBZ, 3), NOP, RET, NOP, 0x94000001, NOP, RET]
    ends = [number == 5 for number in range(len(words))]
    assert [number for number, fatal in enumerate(code.doomed(words, ends)) if fatal] == [3, 4]


def test_an_explanation_fits_a_gap_by_text_or_pattern() -> None:
    gap = Gap(PLACE, "isb();")
    assert Explanation("arch/src/tlb.rs", "why", text="isb();").fits(gap)
    assert Explanation("arch/src/tlb.rs", "why", pattern=r"isb\(.*").fits(gap)
    assert not Explanation("arch/src/tlb.rs", "why", pattern="isb").fits(gap)
    assert not Explanation("arch/src/gic.rs", "why", text="isb();").fits(gap)


def test_gaps_that_nobody_explains_are_problems() -> None:
    counts = {"arch/src/tlb.rs": FileCounts(lines=10, covered=9, branches=2, covered_branches=1)}
    gaps = [Gap(PLACE, "isb();"), Gap(PLACE, "if a {", "taken", 0x100)]
    counts["arch/src/tlb.rs"].gaps += gaps
    why, wrong = el2.explain(counts, [Explanation("arch/src/tlb.rs", "why", text="isb();")])
    problems = el2.verdict(counts, why, wrong)
    assert problems == [
        "90.0% of the lines of engine/arch are covered, which is less than 95%",
        "50.0% of the branches of engine/arch are covered, which is less than 90%",
        str(gaps[1]),
    ]


def test_an_explanation_of_no_gap_is_a_problem() -> None:
    counts = {"arch/src/tlb.rs": FileCounts(lines=10, covered=10)}
    problems = el2.verdict(counts, *el2.explain(counts, [Explanation("arch/src/tlb.rs", "why", text="gone")]))
    assert problems == ["an explanation does not fit: arch/src/tlb.rs: `gone` is covered, or not there"]


def test_explanations_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "explained.toml"
    path.write_text('[[gap]]\nfile = "a"\n')
    with pytest.raises(InvalidInput, match="explanations"):
        el2.load(path)
