"""What counts as the success of an attack: its own assertion about an engine that lives, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from attack.arena import Traces
from bulkhead.attack import Attack, Machine
from bulkhead.attack.campaign import Outcome, Result, attempt
from bulkhead.errors import MachineTimeout
from bulkhead.machine.errors import EnginePanic


class Ground:
    """Ground on which nothing is checked, but which may raise when the attack is over."""

    def __init__(self, after: Exception | None = None) -> None:
        self.after = after
        self.times = 0

    @contextmanager
    def under(self, _: Attack) -> Iterator[None]:
        self.times += 1
        yield
        if self.after:
            raise self.after


def tried(carry_out: Callable[[Any], None], ground: Ground, tries: int = 1) -> Result:
    one = Attack("subject", "name", "title", "host", "P6", "", "", (), "", Machine(), carry_out)
    return attempt(one, ground, tries)


def asserts(_: Any) -> None:
    raise AssertionError("the secret is 7")


def asserts_without_words(_: Any) -> None:
    raise AssertionError


def fails_on_the_way(_: Any) -> None:
    exec(compile("assert False, 'map: expected SUCCESS'", "/tooling/machine.py", "exec"))


def panics(_: Any) -> None:
    raise EnginePanic("dump", "a readable dump")


def hangs(_: Any) -> None:
    raise MachineTimeout("waited 30 s in vain")


def test_its_own_assertion_is_a_success_and_says_what_and_where() -> None:
    result = tried(asserts, Ground())
    assert result.outcome is Outcome.SUCCEEDED
    assert result.reached == "the secret is 7"
    assert result.place.rpartition(":")[0] == __file__


@pytest.mark.parametrize("carry_out", [panics, hangs, fails_on_the_way, asserts_without_words])
def test_panics_hangs_and_defects_of_the_test_are_no_success(carry_out: Callable[[Any], None]) -> None:
    assert tried(carry_out, Ground()).outcome is Outcome.BROKEN


def test_traces_are_told_from_a_success() -> None:
    assert tried(lambda _: None, Ground(Traces("a secret is left"))).outcome is Outcome.TRACES


@pytest.mark.parametrize(("carry_out", "times"), [(lambda _: None, 3), (asserts, 1), (panics, 1)])
def test_only_a_refused_attack_is_tried_again(carry_out: Callable[[Any], None], times: int) -> None:
    ground = Ground()
    tried(carry_out, ground, tries=3)
    assert ground.times == times
