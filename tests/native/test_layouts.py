"""Machines of other shapes than QEMU's: holes in RAM, odd edges, far bases, the least and the most. Host build only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.testing.builder import dismantle
from bulkhead.errors import InvalidInput
from bulkhead.inspect.records import Kind

MIB, GIB = 1 << 20, 1 << 30
SHAPES = {
    "one range": ((0x4000_0000, 16 * MIB),),
    "a hole": ((0x4000_0000, 16 * MIB), (0x4400_0000, 16 * MIB)),
    "three ranges in two GiB": ((0x8000_0000, 8 * MIB), (0x8100_0000, 8 * MIB), (0xC000_0000, 32 * MIB)),
    "not from a GiB on": ((0x4020_0000, 32 * MIB),),
    "edges inside blocks": ((0x4010_1000, 17 * MIB + PAGE), (0x4410_1000, 9 * MIB)),
    "address zero": ((0, 16 * MIB),),
    "beyond 512 GiB": ((512 * GIB - 8 * MIB, 24 * MIB),),
    "the last 46-bit address": (((1 << 46) - 16 * MIB, 16 * MIB),),
    "9 GiB wide": ((GIB, 16 * MIB), (9 * GIB, 64 * MIB)),
}


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def shaped(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of each shape."""
    backend = HostBackend(request.param)
    yield Machine(backend)
    backend.close()


def test_a_vm_lives_and_leaves(shaped: Machine) -> None:
    vm = Vm(shaped)
    page = vm.page(content=b"somewhere else")
    vm.activate()
    assert shaped.vm_walk(0, 0x4000_0000) == page
    assert shaped.vm_record(0).measurement == vm.measurement.digest
    invariants.check(Snapshot.take(shaped))
    dismantle(shaped)
    invariants.check(Snapshot.take(shaped))
    assert shaped.backend.memory(page, PAGE) == bytes(PAGE)


def test_holes_and_edges_are_the_engines(shaped: Machine) -> None:
    vm = Vm(shaped)
    vm.cover()
    for block in shaped.blocks(Kind.ENGINE)[:: max(1, shaped.layout.blocks // 64)]:
        for address in (block, block + BLOCK - PAGE):
            arguments = {"vm": 0, "ipa": 0x4000_0000, "frame": address, "mode": 0}
            reply = shaped.call("map", **arguments)
            assert (reply.status, reply.detail) == ("NOT_OWNED", 3)
            assert shaped.host_walk(address) is None


def test_frames_end_with_ram(shaped: Machine) -> None:
    for address in (shaped.layout.end, shaped.layout.ram_base - PAGE):
        shaped.refuses("reclaim", "INVALID_ARGUMENT", "frame", frame=address % (1 << 64))
    engine = shaped.call("reclaim", frame=shaped.layout.end - PAGE)
    assert engine.status in ("NOT_OWNED", "NEEDS_SPLIT", "BAD_STATE")


def test_every_host_block_can_be_split(shaped: Machine) -> None:
    for block in shaped.blocks(Kind.HOST):
        shaped.ok("host_split", block=block, table=shaped.take())
    invariants.check(Snapshot.take(shaped))
    assert not shaped.blocks(Kind.HOST)


@pytest.mark.parametrize("cpus", [1, 8])
def test_number_of_cpus(cpus: int) -> None:
    backend = HostBackend(cpus=cpus)
    machine = Machine(backend)
    assert machine.ok("version", cpu=cpus - 1).results["cpus"] == cpus
    backend.close()


@pytest.mark.parametrize(
    ("ram", "cpus", "why"),
    [
        ((), 1, "needs RAM"),
        (((0x4000_0000, MIB),), 1, "no room"),
        (((0x4000_0000, 2 * MIB),), 1, "no whole block"),
        (((0x4000_0000, 16 * MIB),), 0, "CPUs"),
        (((0x4000_0000, 16 * MIB), (0x4000_0000, 16 * MIB)), 1, "out of order"),
        (((1 << 46, 16 * MIB),), 1, "beyond"),
        (((0, 16 * MIB), ((1 << 40) + GIB, 16 * MIB)), 1, "1 TiB"),
    ],
)
def test_machines_that_cannot_be(ram: tuple[tuple[int, int], ...], cpus: int, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        HostBackend(ram, cpus)
