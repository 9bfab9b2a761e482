"""DMA windows: what opening and closing one changes, what it excludes, and machines that have none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.testing.machine import MASK, filler
from bulkhead.inspect.records import FrameRecord, Kind
from native.scene import BLOCK_IPA, NEW, RAM, Scene

HOST, WINDOW = FrameRecord(Kind.HOST), FrameRecord(Kind.DMA)
BLOCK_LEAF = 0x7FD


@pytest.mark.raw_memory
def test_a_window_opens_and_closes(scene: Scene) -> None:
    machine, block = scene.machine, scene.whole
    machine.backend.write(block, b"kept")
    _, changes = machine.observe("dma_allow", block=block)
    assert changes.blocks == {block: (HOST, WINDOW)}
    assert changes.dma_level2 == {block: (0, block | BLOCK_LEAF)}
    assert not (changes.frames or changes.vms or changes.host_level2 or changes.contents)
    assert machine.backend.memory(block, 4) == b"kept"
    _, changes = machine.observe("dma_revoke", block=block)
    assert changes.blocks == {block: (WINDOW, HOST)}
    assert changes.dma_level2 == {block: (block | BLOCK_LEAF, 0)}
    assert not (changes.frames or changes.vms or changes.host_level2 or changes.contents)
    assert machine.backend.memory(block, 4) == b"kept"


def test_nothing_of_a_window_changes_hands(scene: Scene) -> None:
    machine, window = scene.machine, scene.window()
    for frame in (window, window + BLOCK - PAGE):
        machine.refuses("map", "NOT_OWNED", "frame", vm=NEW, ipa=RAM + PAGE, frame=frame)
        machine.refuses("vcpu_create", "NOT_OWNED", "frame", vm=NEW, index=1, frame=frame)
    machine.refuses("host_split", "NOT_OWNED", "block", block=window, table=scene.frame)
    machine.refuses("map_block", "NOT_OWNED", "block", vm=NEW, ipa=BLOCK_IPA, block=window)
    machine.refuses("dma_allow", "NOT_OWNED", "block", block=window)
    machine.ok("dma_revoke", block=window)
    machine.ok("map_block", vm=NEW, ipa=BLOCK_IPA, block=window)


@pytest.mark.raw_memory
def test_windows_are_independent(scene: Scene) -> None:
    machine = scene.machine
    first, second = machine.take_block(), machine.take_block()
    for block in (first, second):
        machine.ok("dma_allow", block=block)
    machine.ok("dma_revoke", block=first)
    machine.refuses("dma_revoke", "NOT_OWNED", "block", block=first)
    assert machine.block_record(second) == WINDOW
    machine.ok("map_block", vm=NEW, ipa=BLOCK_IPA, block=first)
    machine.refuses("map_block", "NOT_OWNED", "block", vm=NEW, ipa=BLOCK_IPA - BLOCK, block=second)


@pytest.fixture
def without_smmu() -> Iterator[Machine]:
    """A machine whose devices reach nothing at all."""
    backend = HostBackend(features=0)
    yield Machine(backend)
    backend.close()


@pytest.mark.host
@pytest.mark.parametrize("call", ["dma_allow", "dma_revoke"])
def test_without_an_smmu(without_smmu: Machine, call: str) -> None:
    assert without_smmu.ok("features").results == {"features": 0}
    for block in (*without_smmu.blocks(Kind.HOST), without_smmu.layout.split_block, 1, MASK):
        without_smmu.refuses(call, "NOT_SUPPORTED", block=block)
        reply = without_smmu.call(call, block=block)
        assert reply.regs[1:] == (block, *(filler(register) for register in range(2, 18)))
