"""Each call's instructions against the specification's events: barriers, maintenance, stores, and their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bulkhead.conformance.builder import Vm
from bulkhead.conformance.trace import check_calls
from bulkhead.conformance.traced import TracedMachine
from bulkhead.image.build import Images, build
from bulkhead.spec import CALLS, STEPS
from instructions import patches


@pytest.fixture(scope="module")
def images() -> Images:
    return build("pinned", "payload")


@pytest.mark.slow
def test_every_step_does_what_its_events_stand_for(images: Images) -> None:
    """All calls and steps that change ownership, on the shipped image."""
    done: list[TracedMachine] = []
    assert check_calls(images, done=done) == []
    assert done[0].checked.keys() == CALLS.keys() | STEPS.keys()


def map_a_page(machine: TracedMachine) -> None:
    """A page of a new VM, zeroed."""
    Vm(machine).page()


def is_(wanted: int) -> Callable[[int], bool]:
    """The word itself, or with any register in place of its own."""
    return lambda word: word == wanted or (wanted & 31 == 0 and word & ~31 == wanted)


MAP = ("call", "map", "map")
DEFECTS = {
    "no DSB ISH after TLBI IPAS2E1IS": (MAP, is_(patches.DSB_ISH), 0, patches.NOP, "specified is 'dsb ish'"),
    "no TLBI VMALLE1IS": (MAP, is_(patches.TLBI_VMALLE1IS), 0, patches.NOP, "specified is 'tlbi vmalle1is 0x0'"),
    "no DSB ISHST before the invalidation": (MAP, is_(patches.DSB_ISHST), 0, patches.NOP, "specified is 'dsb ishst'"),
    "not for other CPUs": (MAP, is_(patches.TLBI_VMALLE1IS), 0, 0xD508871F, "is 'tlbi vmalle1 0x0'"),
    "no invalidation of instructions": (MAP, is_(patches.IC_IALLUIS), 0, patches.NOP, "specified is 'ic ialluis"),
    "not published": (MAP, is_(patches.DSB_ISHST), 1, patches.NOP, "specified is 'dsb ishst'"),
    "another address": (MAP, is_(patches.TLBI_IPAS2E1IS), 0, 0xD50C803F, "is 'tlbi ipas2e1is 0x0'"),
    "not cleaned": (("bulkhead_clean_frame",), is_(patches.DC_CIVAC), 0, patches.NOP, "cleans and invalidates nothing"),
    "cleaned, not waited for": (("bulkhead_clean_frame",), is_(patches.DSB_SY), 0, patches.NOP, "does not wait"),
}  # fmt: skip
"""What is wrong → function, instruction in it, which of them, the word in its place, and what the check says."""


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_one_instruction_that_is_wrong_is_noticed(images: Images, name: str, tmp_path: Path) -> None:
    """QEMU runs these engines as well as the right one."""
    place, chosen, number, word, said = DEFECTS[name]
    address = patches.places(images, chosen, *place)[number]
    differences = check_calls(patches.patched(images, address, word, tmp_path), map_a_page)
    assert any(said in one for one in differences), differences
