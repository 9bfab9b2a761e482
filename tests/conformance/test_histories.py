"""Calls of several CPUs at once: each history on the booted engine has an explanation by the specification."""

from __future__ import annotations

import pytest

from bulkhead.conformance.histories.campaign import Counts
from bulkhead.conformance.histories.cli import describe, run
from bulkhead.image.build import build

pytestmark = [pytest.mark.qemu, pytest.mark.slow]


@pytest.mark.parametrize(("cpus", "number"), [(2, 300), (4, 40)])
def test_histories_are_explained(cpus: int, number: int) -> None:
    counts = Counts()
    run(build("pinned", "payload"), cpus, number, "default", counts)
    print(describe(counts))
    assert counts.explained == number
    assert counts.overlapping > number // 20
    assert counts.busy > 0
