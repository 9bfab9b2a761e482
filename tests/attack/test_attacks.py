"""Every attack of this directory is refused by the shipped image, and its test fails where its protection is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.attack import Attack, document, record
from bulkhead.attack.campaign import Campaign, Outcome, shipped, under_way, weakened
from bulkhead.attack.catalogue import load
from bulkhead.image import variant

ATTACKS = load()
ABLE = [one for one in ATTACKS if one.removed]
LIMIT = pytest.mark.timeout(1200)
"""The first test of a campaign waits for its build and boot."""


def chosen(request: pytest.FixtureRequest, test: str) -> list[Attack]:
    """The attacks of the tests called `test` that this session runs."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [item.callspec.params["one"] for item in items if item.originalname == test]


@pytest.fixture(scope="module")
def on_shipped(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """The chosen attacks under way on the shipped image."""
    attacks = chosen(request, "test_the_attack_is_refused")
    with under_way(shipped(attacks)) as campaign:
        yield campaign
        if len(attacks) == len(ATTACKS):
            record.keep([campaign.result(one) for one in attacks])


@pytest.fixture(scope="module")
def on_weakened(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """The chosen attacks under way, each on an engine without the protection that it names."""
    attacks = chosen(request, "test_the_attack_is_noticed")
    with under_way(weakened(attacks)) as campaign:
        yield campaign
        if len(attacks) == len(ABLE):
            record.keep([campaign.result(one) for one in attacks], self_check=True)


@pytest.mark.parametrize("one", ABLE, ids=str)
def test_the_removed_protection_is_in_the_sources(one: Attack) -> None:
    variant.check(one.removed)


def test_the_documents_table_is_that_of_the_attacks() -> None:
    assert document.DOCUMENT.read_text() == document.derived(), "python -m bulkhead.attack.document"


@pytest.mark.parametrize("one", ATTACKS, ids=str)
def test_the_attack_names_what_to_remove_or_says_why_nothing_can_be(one: Attack) -> None:
    assert bool(one.removed) != bool(one.irremovable)


def test_few_attacks_have_nothing_that_can_be_removed() -> None:
    assert len(ATTACKS) - len(ABLE) < 12, [one.name for one in ATTACKS if one.irremovable]


@pytest.mark.qemu
@pytest.mark.slow
@LIMIT
@pytest.mark.xdist_group("attacks on the shipped image")
@pytest.mark.parametrize("one", ATTACKS, ids=str)
def test_the_attack_is_refused(on_shipped: Campaign, one: Attack) -> None:
    result = on_shipped.result(one)
    assert result.outcome is Outcome.REFUSED, result.reached


@pytest.mark.qemu
@pytest.mark.slow
@LIMIT
@pytest.mark.xdist_group("attacks on weakened engines")
@pytest.mark.parametrize("one", ABLE, ids=str)
def test_the_attack_is_noticed(on_weakened: Campaign, one: Attack) -> None:
    result = on_weakened.result(one)
    assert result.outcome is Outcome.SUCCEEDED, f"{result.outcome.value}: {result.reached}"


def test_there_are_attacks_by_everybody() -> None:
    assert {"host", "vm", "device", "client", "several"} == {one.by for one in ATTACKS}
