"""Every call that takes a frame, with every frame that it must not take: the right status, and nothing changes."""

from __future__ import annotations

import pytest

from bulkhead.conformance.backends.backend import PAGE
from native.scene import ADDRESSES, MIB, OWNED, RAM, Scene

TAKES_HOST_FRAME = [
    ("host_split", "table"), ("vm_create", "root"), ("table_donate", "table"), ("map", "frame"),
    ("vcpu_create", "frame"), ("vm_split", "table"), ("vm_split", "host_table"),
]  # fmt: skip
"""Calls and their arguments that must be frames of the host."""
TAKES_OWN_FRAME = {
    "table_reclaim": ("table", {"level 2 table", "level 3 table"}),
    "reclaim": (
        "frame",
        {"page", "page of another VM", "page of a dying VM", "vCPU", "vCPU of another VM", "shared page"},
    ),
    "vcpu_set_entry": ("vcpu", {"vCPU", "vCPU of another VM"}),
    "vcpu_run": ("vcpu", {"vCPU", "vCPU of another VM"}),
}
"""Call → its argument that must be a frame of a VM, and the kinds of frame that are."""


@pytest.mark.parametrize("what", ADDRESSES)
@pytest.mark.parametrize(
    ("call", "argument"),
    [*TAKES_HOST_FRAME, *((call, argument) for call, (argument, _) in TAKES_OWN_FRAME.items())],
)
def test_address_that_is_no_frame_to_give(scene: Scene, call: str, argument: str, what: str) -> None:
    address, status = scene.frames()[what]
    scene.machine.refuses(call, status, argument, **scene.good(call) | {argument: address})


@pytest.mark.parametrize("what", [what for what in OWNED if what != "host frame"])
@pytest.mark.parametrize(("call", "argument"), TAKES_HOST_FRAME)
def test_frame_that_is_not_the_hosts(scene: Scene, call: str, argument: str, what: str) -> None:
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


@pytest.mark.parametrize("call", sorted({call for call, _ in TAKES_HOST_FRAME} | set(TAKES_OWN_FRAME)))
def test_the_same_call_with_the_right_frame_succeeds(scene: Scene, call: str) -> None:
    scene.machine.ok(call, **scene.good(call))


@pytest.mark.parametrize(
    ("call", "argument", "elsewhere"),
    [
        ("vm_create", "root", {"vm": 62}),
        ("table_donate", "table", {"ipa": RAM + 6 * MIB}),
        ("map", "frame", {"ipa": RAM + PAGE}),
        ("map_block", "block", {"ipa": RAM + 4 * MIB}),
    ],
)
def test_a_frame_can_be_given_only_once(
    scene: Scene, call: str, argument: str, elsewhere: dict[str, int]
) -> None:
    arguments = scene.good(call)
    scene.machine.ok(call, **arguments)
    scene.machine.refuses(call, "NOT_OWNED", argument, **arguments | elsewhere)
