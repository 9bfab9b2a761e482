"""Every call that takes a frame, with every frame that it must not take: the right status, and nothing changes."""

from __future__ import annotations

import pytest

from bulkhead.conformance.backend import PAGE
from native.scene import ADDRESSES, MIB, OWNED, RAM, Scene

TAKES_HOST_FRAME = {
    "host_split": "table",
    "vm_create": "root",
    "table_donate": "table",
    "map": "frame",
    "vcpu_create": "frame",
}
"""Call → its argument that must be a frame of the host."""
TAKES_OWN_FRAME = {
    "table_reclaim": ("table", {"level 2 table", "level 3 table"}),
    "reclaim": ("frame", {"page", "page of another VM", "page of a dying VM", "vCPU", "vCPU of another VM"}),
    "vcpu_set_entry": ("vcpu", {"vCPU", "vCPU of another VM"}),
    "vcpu_run": ("vcpu", {"vCPU", "vCPU of another VM"}),
}
"""Call → its argument that must be a frame of a VM, and the kinds of frame that are."""


@pytest.mark.parametrize("what", ADDRESSES)
@pytest.mark.parametrize("call", [*TAKES_HOST_FRAME, *TAKES_OWN_FRAME])
def test_address_that_is_no_frame_to_give(scene: Scene, call: str, what: str) -> None:
    argument = TAKES_HOST_FRAME.get(call) or TAKES_OWN_FRAME[call][0]
    address, status = scene.frames()[what]
    scene.machine.refuses(call, status, argument, **scene.good(call) | {argument: address})


@pytest.mark.parametrize("what", [what for what in OWNED if what != "host frame"])
@pytest.mark.parametrize("call", TAKES_HOST_FRAME)
def test_frame_that_is_not_the_hosts(scene: Scene, call: str, what: str) -> None:
    argument = TAKES_HOST_FRAME[call]
    frame = scene.owned()[what]
    scene.machine.refuses(call, "NOT_OWNED", argument, **scene.good(call) | {argument: frame})


@pytest.mark.parametrize(
    ("call", "what"),
    [(call, what) for call, (_, fitting) in TAKES_OWN_FRAME.items() for what in OWNED if what not in fitting],
)
def test_frame_of_the_wrong_kind(scene: Scene, call: str, what: str) -> None:
    argument = TAKES_OWN_FRAME[call][0]
    frame = scene.owned()[what]
    scene.machine.refuses(call, "NOT_OWNED", argument, **scene.good(call) | {argument: frame})


@pytest.mark.parametrize("call", [*TAKES_HOST_FRAME, *TAKES_OWN_FRAME])
def test_the_same_call_with_the_right_frame_succeeds(scene: Scene, call: str) -> None:
    scene.machine.ok(call, **scene.good(call))


@pytest.mark.parametrize(
    ("call", "elsewhere"),
    [("vm_create", {"vm": 62}), ("table_donate", {"ipa": RAM + 6 * MIB}), ("map", {"ipa": RAM + PAGE})],
)
def test_a_frame_can_be_given_only_once(scene: Scene, call: str, elsewhere: dict[str, int]) -> None:
    arguments = scene.good(call)
    scene.machine.ok(call, **arguments)
    scene.machine.refuses(call, "NOT_OWNED", TAKES_HOST_FRAME[call], **arguments | elsewhere)
