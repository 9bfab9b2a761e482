"""The rendered specification says what the definitions do, and its diagrams are what a solver finds in them."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from bulkhead.prove import transitions
from bulkhead.report.specification import diagram, page
from bulkhead.report.specification.watch import watch
from bulkhead.spec import pairs
from bulkhead.spec.calls import DEFINITIONS, STEP_DEFINITIONS, tested

pytestmark = pytest.mark.slow

PROVED = {**DEFINITIONS, **STEP_DEFINITIONS}
VM_LIFE = {
    "FREE BUILDING": ["vm_create"],
    "BUILDING ACTIVE": ["activate"],
    "BUILDING DYING": ["vm_kill"],
    "ACTIVE DYING": ["vm_kill", "VM: PSCI_SYSTEM_OFF", "VM: PSCI_SYSTEM_RESET", "VM: SError"],
    "DYING FREE": ["vm_destroy"],
}
RUN_STATES = {
    "NONE OFF": ["vcpu_create"],
    "OFF RUNNABLE": ["vcpu_set_entry", "VM: PSCI_CPU_ON"],
    "RUNNABLE LOADED": ["vcpu_run"],
    "LOADED RUNNABLE": ["vcpu_run", "vcpu_put", "PSCI_CPU_OFF"],
    "LOADED OFF": ["VM: PSCI_CPU_OFF"],
    "OFF NONE": ["reclaim"],
    "RUNNABLE NONE": ["reclaim"],
}


@pytest.mark.parametrize("step", PROVED)
def test_conditions_and_events_are_those_of_the_outcome(step: str) -> None:
    seen, outcome = watch(PROVED[step]), pairs.symbolic_outcome(step)
    labels = [one.need.label for one in seen.conditions for _ in range(one.times)]
    assert labels == [need.label for need in outcome.needs]
    kinds = list(dict.fromkeys(type(event).__name__ for _, event in outcome.events))
    assert list(dict.fromkeys(event.__name__ for one in seen.effects for event in one.events)) == kinds


@pytest.mark.parametrize("step", [*PROVED, *tested.TESTED])
def test_every_condition_and_effect_has_its_words(step: str) -> None:
    seen = watch((PROVED | dict(tested.TESTED))[step])
    assert [one for one in seen.conditions if not one.text] == []
    assert [one.place for one in seen.effects if not one.place.text.startswith("t.")] == []


def test_a_condition_reads_as_in_the_source() -> None:
    seen = watch(DEFINITIONS["vm_destroy"])
    told = [(one.text, one.need.label, one.times) for one in seen.conditions]
    assert told[1:3] == [
        ("t.before.vm_word(vm, VmWord.STATE) == VmState.DYING", "BAD_STATE", 1),
        ("t.before.vm_word(vm, VmWord.VCPU + index) == 0", "NOT_EMPTY", 8),
    ]


@pytest.fixture(scope="module")
def changes() -> dict[str, dict[transitions.Change, list[str]]]:
    """All changes that there are."""
    return transitions.changes()


@pytest.mark.parametrize(("view", "expected"), [("vm", VM_LIFE), ("vcpu", RUN_STATES)])
def test_the_state_machine(
    changes: dict[str, dict[transitions.Change, list[str]]], view: str, expected: dict[str, list[str]]
) -> None:
    found = {f"{before.name} {after.name}": steps for (before, after), steps in changes[view].items()}
    assert found == expected


@pytest.mark.parametrize("view", diagram.DRAWINGS)
def test_a_drawing_has_every_change(changes: dict[str, dict[transitions.Change, list[str]]], view: str) -> None:
    svg = diagram.draw(view, changes[view])
    assert svg.count("marker-end") == len(changes[view])
    assert set(diagram.DRAWINGS[view].places).isdisjoint(diagram.untouched(view, changes[view]))


def test_the_page_names_every_step_and_is_whole(
    changes: dict[str, dict[transitions.Change, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "changes", lambda: changes)
    html = page.render()
    assert [step for step in (*PROVED, *tested.TESTED) if f"<code>{step}</code>" not in html] == []
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            del attrs
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(html)
    assert opened == []
