"""That nothing is called unreachable which is not, and that a condition which can never fail is noticed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from bulkhead.prove import reachability
from bulkhead.prove.exec.errors import ProofFailed
from bulkhead.prove.reachability import OfVcpus, prove
from bulkhead.spec import CALLS, STEPS, Transaction, pairs
from bulkhead.spec.calls import DEFINITIONS, tested
from bulkhead.spec.pairs import UNREACHABLE, Pair, pairs_in
from bulkhead.spec.transaction import Outcome, run

pytestmark = pytest.mark.slow


def test_what_is_listed_is_all_that_is_proved() -> None:
    """The theorem of each step, asked anew."""
    found = {pair for step in (*CALLS, *STEPS) for pair in prove(step)[0]}
    assert found == set(UNREACHABLE)


def test_alternatives_of_a_vcpus_steps_are_what_nothing_allows() -> None:
    for step in tested.TESTED:
        questions = OfVcpus(step)
        everything = pairs_in(step, questions.outcome)
        possible = pairs.tested_table()[step]
        listed = {*everything.successes.values()} - {*possible.successes.values()}
        assert {*questions.contradicted()} == listed, step


@pytest.mark.parametrize("label", ["8. NEEDS_SPLIT(3)", "SUCCESS measured"])
def test_what_is_reachable_cannot_be_listed(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    monkeypatch.setitem(reachability.UNREACHABLE, Pair("map", label), "so somebody says")
    with pytest.raises(ProofFailed, match="nothing contradicts"):
        prove("map")


def test_what_is_unreachable_must_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(reachability.UNREACHABLE, Pair("map", "SUCCESS"))
    with pytest.raises(ProofFailed, match=r"map: SUCCESS: .*lacks it"):
        prove("map")


def test_a_condition_that_can_never_fail_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot of a VM that lives is one, as checked before."""

    def definition(t: Transaction, **arguments: Any) -> None:
        DEFINITIONS["vm_kill"](t, **arguments)
        t.need(arguments["vm"] & ~63 == 0, "INVALID_ARGUMENT", 1)

    def call(state: Any, **arguments: Any) -> Outcome:
        return run(state, partial(definition, **arguments))

    monkeypatch.setitem(reachability.CALLS, "vm_kill", call)
    with pytest.raises(ProofFailed, match=r"3\. INVALID_ARGUMENT"):
        prove("vm_kill")
