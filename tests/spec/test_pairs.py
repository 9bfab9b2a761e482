"""The table of pairs: complete, unambiguous, and found again for what happens on plain integers."""

from __future__ import annotations

from bulkhead.spec import CALLS, STEPS, Config, pairs, plain
from bulkhead.spec.pairs import Pair
from bulkhead.spec.transaction import Transaction, run
from bulkhead.spec.words import Word

CONFIG = Config(0x4000_0000, 512)
EMPTY = plain.from_words(CONFIG, {}, {}, {}, {}, {})


def test_every_step_can_succeed_and_pairs_differ() -> None:
    everything = pairs.all_pairs()
    assert len(set(everything)) == len(everything)
    for step in (*CALLS, *STEPS):
        assert any(pair.step == step and pair.label.startswith("SUCCESS") for pair in pairs.reachable())


def test_what_is_unreachable_is_a_pair() -> None:
    assert set(pairs.unreachable()) < set(pairs.all_pairs())
    assert set(pairs.reachable()) | set(pairs.unreachable()) == set(pairs.all_pairs())


def test_a_refusal_is_the_condition_that_failed() -> None:
    outcome = CALLS["map"](EMPTY, vm=64, ipa=0, frame=0, mode=0)
    assert pairs.of("map", outcome) == Pair("map", "1. INVALID_ARGUMENT(1)")
    assert str(pairs.of("vm_kill", CALLS["vm_kill"](EMPTY, vm=0))) == "vm_kill: 2. BAD_STATE"


def nested(t: Transaction, first: Word, second: Word, third: Word) -> None:
    """A call whose success has shapes."""
    with t.when(first == 1, name="a"), t.when(second == 1, name="b"):
        pass
    with t.when(third == 1, name="c"):
        t.need(second == 1, "BAD_STATE")


def test_shapes_are_the_blocks_that_can_count_together() -> None:
    outcome = run(EMPTY, lambda t: nested(t, 1, 0, 0))
    assert {part.name for part in outcome.parts if part.taken is True} == {"a"}
    found = pairs.pairs_in("call", outcome)
    labels = [pair.label for pair in found.successes.values()]
    assert labels == ["SUCCESS", "SUCCESS a", "SUCCESS c", "SUCCESS a, b", "SUCCESS a, c", "SUCCESS a, b, c"]
    assert [pair.label for pair in found.refusals] == ["1. BAD_STATE"]
