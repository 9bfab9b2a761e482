"""The order of what a call does where the order protects: the old owner loses the memory, on all CPUs and in the SMMU,
before it is zeroed, before its record changes, before the new owner gets it. Host build only: it records what happens.
"""

from __future__ import annotations

import pytest

from bulkhead.conformance.backends.host import HostBackend
from native.scene import LIVE, RAM, Scene

pytestmark = pytest.mark.host

LEAVES_HOST = ["SetTableEntry", "InvalidateHostPage"]
LEAVES_VM = ["SetTableEntry", "InvalidateVmPage"]
SCRUBBED = ["ZeroFrame", "InvalidateInstructions", "SetFrameRecord", "SetTableEntry", "Publish"]
ORDER = {
    "map_block": [
        "SetHostEntry", "InvalidateHostPage", "ZeroBlock", "InvalidateInstructions", "SetBlockRecord", "SetTableEntry",
        "Publish",
    ],
    "vm_split": [
        *LEAVES_HOST, *LEAVES_HOST, "FillTable", "SetFrameRecord", "ZeroFrame", "SetFrameRecord", "FillVmRecords",
        *LEAVES_VM, "SetTableEntry", "SetHostEntry", "SetBlockRecord", "Publish",
    ],
    "reclaim_block": [
        *LEAVES_VM, "ZeroBlock", "InvalidateInstructions", "SetBlockRecord", "SetHostEntry", "Publish",
    ],
    "share_accept": ["SetFrameRecord", "SetTableEntry", "Publish"],
    "share_release": [*LEAVES_HOST, "CleanFrame", "SetFrameRecord"],
    "dma_allow": ["SetBlockRecord", "SetDmaEntry", "Publish"],
    "dma_revoke": ["SetDmaEntry", "InvalidateDma", "SetBlockRecord"],
    "reclaim": [*LEAVES_VM, *SCRUBBED],
    "table_reclaim": [*LEAVES_VM, *SCRUBBED],
}  # fmt: skip


def happened(scene: Scene, call: str, arguments: dict[str, int]) -> list[str]:
    """The names of what the call does, between taking the lock and giving it back."""
    backend = scene.machine.backend
    assert isinstance(backend, HostBackend)
    backend.events()
    scene.machine.ok(call, **arguments)
    first, *names, last = [event.name for event in backend.events()]
    assert (first, last) == ("Lock", "Unlock")
    return names


@pytest.mark.parametrize("call", ORDER)
def test_order(scene: Scene, call: str) -> None:
    assert happened(scene, call, scene.good(call)) == ORDER[call]


def test_order_of_taking_back_what_the_host_has_mapped(scene: Scene) -> None:
    scene.accept()
    scene.live.kill()
    order = happened(scene, "reclaim", {"frame": scene.live.pages[RAM]})
    assert order == [*LEAVES_VM, *LEAVES_HOST, *SCRUBBED]


def test_split_invalidates_between_block_and_table(scene: Scene) -> None:
    """Break before make, with the right operands."""
    backend = scene.machine.backend
    assert isinstance(backend, HostBackend)
    block = scene.live.block(RAM + (6 << 20))
    table, host_table = scene.frame, scene.other
    backend.events()
    scene.machine.ok("vm_split", block=block, table=table, host_table=host_table)
    events = [event for event in backend.events() if event.name in ("SetTableEntry", "InvalidateVmPage")]
    level2 = scene.machine.index(scene.live.tables[2, RAM])
    slot = (RAM + (6 << 20)) >> 21 & 511
    broken, invalidated, made = events[-3:]
    assert broken.operands[:3] == (level2, slot, 0)
    assert invalidated.operands[:2] == (LIVE, RAM + (6 << 20))
    assert made.operands[:3] == (level2, slot, table | 3)
