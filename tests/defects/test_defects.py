"""Seeded defects are declared soundly, some of them are looked for here, and all have been found in this engine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from bulkhead.defects import Defect, Finder
from bulkhead.defects.catalogue import TESTS, load
from bulkhead.defects.cli import KIND, keep
from bulkhead.defects.hunt import Finding, Verdict, hunt, search
from bulkhead.image import variant
from bulkhead.report import baselines
from bulkhead.report.results import engine_hash

DEFECTS = load()
LEAST = 30
SAMPLE, BOOTED = 10, 2
"""How many are looked for here, and how many of these at most on the booted image."""


def draw() -> list[Defect]:
    """A sample of many families, another one for each engine."""
    order = sorted(DEFECTS, key=lambda one: hashlib.sha256(f"{engine_hash()} {one.name}".encode()).digest())
    first = {one.family: one for one in reversed(order)}
    order.sort(key=lambda one: first[one.family] is not one)
    chosen: list[Defect] = []
    for one in order:
        booted = sum(other.found_by.backend == "qemu" for other in chosen)
        if len(chosen) < SAMPLE and (one.found_by.backend == "host" or booted < BOOTED):
            chosen.append(one)
    return chosen


@pytest.fixture(scope="module")
def findings() -> Iterator[list[Finding]]:
    """What has become of those that were looked for, which the report shows."""
    begin, found = time.monotonic(), list[Finding]()
    yield found
    keep(found, time.monotonic() - begin)


def test_there_are_enough_of_them_against_every_promise() -> None:
    assert len(DEFECTS) >= LEAST
    assert {one.breaks for one in DEFECTS} == {f"P{number}" for number in range(1, 8)}


@pytest.mark.parametrize("one", DEFECTS, ids=str)
def test_the_edits_fit_the_sources(one: Defect) -> None:
    assert one.edits
    variant.check(one.edits)


@pytest.mark.parametrize("one", DEFECTS, ids=str)
def test_what_is_to_find_it_exists(one: Defect) -> None:
    if one.found_by.part == "tests":
        for name in one.found_by.names:
            assert (TESTS.parent / name.partition("::")[0]).exists(), name
    assert bool(one.found_by.names) == (one.found_by.part in ("tests", "attacks"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_engine_without_a_defect_survives() -> None:
    answer = search((), Finder("conformance", seconds=10))
    assert answer.verdict is Verdict.SURVIVED, answer.step


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(SAMPLE))
def test_one_of_a_sample_is_found(findings: list[Finding], number: int) -> None:
    finding = hunt(draw()[number])
    findings.append(finding)
    print(f"{finding.defect}: {finding.by}\n{finding.step}")
    assert finding.verdict is Verdict.FOUND, f"{finding.defect}: {finding.verdict.value}: {finding.step}"


@pytest.mark.slow
@pytest.mark.qemu
def test_a_full_run_on_this_engine_has_found_all() -> None:
    missing = {one.name for one in DEFECTS} ^ set(baselines.claimed(KIND)["defects"])
    assert not missing, "the record is about other defects: `inv defects --record`"
