"""What a proof invents (context, decision, arguments, stack) lies outside all RAM that the invariants allow."""

from __future__ import annotations

import pytest

from bulkhead.prove import refinement, vm_step
from bulkhead.prove.binding import bind
from bulkhead.prove.exec import state
from bulkhead.prove.exec.errors import ProofFailed
from bulkhead.prove.exec.image import Image
from bulkhead.prove.refinement import Refinement
from bulkhead.prove.vm_step import VmStep

IN_RAM = 0x7200_0000_0000
"""Where the window of RAM, 0x4000_0000_0000 and 2**46 bytes behind it, may reach."""


@pytest.mark.parametrize("place", ["CONTEXT", "DECISION"])
def test_what_a_vms_call_works_on_is_not_in_ram(
    image: Image, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(vm_step, place, IN_RAM)
    with pytest.raises(ProofFailed, match="overlap"):
        VmStep(image, "unshare").prove()


def test_arguments_are_not_in_ram(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "ARGUMENT_BLOCK", IN_RAM)
    with pytest.raises(ProofFailed, match="RAM and ARGUMENTS overlap"):
        Refinement(image, bind(image, "vm_create")).prove()


def test_the_stack_is_in_no_region(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STACK_TOP", IN_RAM)
    with pytest.raises(ProofFailed, match="stack and RAM overlap"):
        Refinement(image, bind(image, "vm_kill")).prove()
