"""Each call's instructions against the specification's events: barriers, maintenance, stores, and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkhead.conformance.testing.builder import Vm
from bulkhead.image.build import Images, build
from bulkhead.spec import CALLS, STEPS
from bulkhead.trace.check import check_calls
from bulkhead.trace.traced import TracedMachine
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


def reclaim_a_page(machine: TracedMachine) -> None:
    """The page of a VM in slot 2, which is dying."""
    vm = Vm(machine, 2)
    page = vm.page()
    vm.kill()
    machine.ok("reclaim", frame=page)


@dataclass(frozen=True)
class Defect:
    """Instruction `number` of those in a function that are `word` (with any register) becomes `instead`."""

    function: tuple[str, ...]
    word: int
    said: str
    number: int = 0
    instead: int = patches.NOP
    calls: Callable[[TracedMachine], None] = map_a_page


MAP, RECLAIM, CLEAN = ("call", "map", "map"), ("call", "reclaim", "reclaim"), ("bulkhead_clean_frame",)
DEFECTS = {
    "no DSB ISH after TLBI IPAS2E1IS": Defect(MAP, patches.DSB_ISH, "specified is 'dsb ish'"),
    "no TLBI VMALLE1IS": Defect(MAP, patches.TLBI_VMALLE1IS, "specified is 'tlbi vmalle1is 0x0'"),
    "no ISB at the end": Defect(MAP, patches.ISB, "specified is 'isb'"),
    "no DSB ISHST before the invalidation": Defect(MAP, patches.DSB_ISHST, "specified is 'dsb ishst'"),
    "not for other CPUs": Defect(MAP, patches.TLBI_VMALLE1IS, "is 'tlbi vmalle1 0x0'", instead=0xD508871F),
    "no invalidation of instructions": Defect(MAP, patches.IC_IALLUIS, "specified is 'ic ialluis"),
    "not published": Defect(MAP, patches.DSB_ISHST, "specified is 'dsb ishst'", number=1),
    "another address": Defect(MAP, patches.TLBI_IPAS2E1IS, "is 'tlbi ipas2e1is 0x0'", instead=0xD50C803F),
    "not cleaned": Defect(CLEAN, patches.DC_CIVAC, "cleans and invalidates nothing"),
    "cleaned, not waited for": Defect(CLEAN, patches.DSB_SY, "does not wait"),
    "the VMID of another": Defect(
        RECLAIM, patches.MSR_VTTBR, "specified is 'msr VTTBR_EL2 0x3", calls=reclaim_a_page
    ),
    "the translation of another": Defect(
        RECLAIM, patches.MSR_VTCR, "specified is 'msr VTCR_EL2", calls=reclaim_a_page
    ),
}
"""What is wrong with an engine that QEMU runs as well as the right one."""


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_one_instruction_that_is_wrong_is_noticed(images: Images, name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    address = patches.places(images, is_(defect.word), *defect.function)[defect.number]
    differences = check_calls(patches.patched(images, address, defect.instead, tmp_path), defect.calls)
    assert any(defect.said in one for one in differences), differences


@pytest.mark.slow
@pytest.mark.parametrize(("ordered", "plain", "said"), [
    (patches.STLR, patches.STR, "is 'unlock without release'"),
    (patches.CASAL, patches.CAS, "is 'lock without acquire and release'"),
])  # fmt: skip
def test_a_lock_without_order_is_noticed(
    images: Images, ordered: int, plain: int, said: str, tmp_path: Path
) -> None:
    """The exclusive access stays, its order goes."""
    for address, word in patches.everywhere(images, lambda word: word & patches.ORDERED[ordered] == ordered):
        directory = tmp_path / f"{address:x}"
        directory.mkdir()
        operands = word & ~patches.ORDERED[ordered]
        images = patches.patched(images, address, plain | operands, directory)
    differences = check_calls(images, map_a_page)
    assert any(said in one for one in differences), differences
