"""The launch measurement, recomputed with hashlib: every input counts, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from native.scene import MIB, RAM, Scene

Build = Callable[..., Vm]


def sealed(machine: Machine, one: Vm) -> bytes:
    """What `activate` answers, which must be what the record holds."""
    for index in range(one.vcpus):
        if index not in one.contexts:
            one.vcpu(index)
    if not machine.frame_record(one.contexts[0]).parent:
        one.entry()
    words = machine.ok("activate", vm=one.slot).results.values()
    digest = b"".join(word.to_bytes(8, "little") for word in words)
    assert machine.vm_record(one.slot).measurement == digest
    return digest


@pytest.mark.raw_memory
def test_the_least_vm(machine: Machine, vm: Build) -> None:
    one = vm()
    assert sealed(machine, one) == one.measurement.digest


@pytest.mark.raw_memory
@pytest.mark.parametrize(
    "ram",
    [
        ((0, PAGE),),
        ((RAM, MIB), (RAM + MIB, MIB)),
        ((0, PAGE), (PAGE, PAGE), (MIB, MIB), ((1 << 39) - PAGE, PAGE)),
    ],
    ids=len,
)
@pytest.mark.parametrize("vcpus", [1, 8])
def test_parameters(machine: Machine, vm: Build, ram: tuple[tuple[int, int], ...], vcpus: int) -> None:
    one = vm(ram=ram, vcpus=vcpus)
    assert sealed(machine, one) == one.measurement.digest


@pytest.mark.raw_memory
@pytest.mark.parametrize("pages", [1, 2, 17])
def test_pages_with_content(machine: Machine, vm: Build, pages: int) -> None:
    one = vm()
    for number in range(pages):
        one.page(RAM + number * PAGE, content=bytes([number + 1]) * PAGE)
    assert sealed(machine, one) == one.measurement.digest


@pytest.mark.raw_memory
def test_order_of_pages_counts(machine: Machine, vm: Build) -> None:
    first, second = vm(0), vm(1)
    for one, order in ((first, (0, 1)), (second, (1, 0))):
        for number in order:
            one.page(RAM + number * PAGE, content=bytes([number + 1]))
    assert sealed(machine, first) == first.measurement.digest
    assert sealed(machine, second) == second.measurement.digest
    assert first.measurement.digest != second.measurement.digest


@pytest.mark.raw_memory
def test_order_of_vcpus_counts(machine: Machine, vm: Build) -> None:
    one = vm(vcpus=2)
    one.vcpu(1)
    one.vcpu(0)
    assert sealed(machine, one) == one.measurement.digest


@pytest.mark.raw_memory
@pytest.mark.parametrize(("entry", "context"), [(RAM, 0), (RAM + 4, 0), (RAM, 1), (0, (1 << 64) - 1)])
def test_entry_and_context(machine: Machine, vm: Build, entry: int, context: int) -> None:
    one = vm()
    one.vcpu()
    one.entry(entry, context)
    assert sealed(machine, one) == one.measurement.digest


@pytest.mark.raw_memory
def test_zeroed_pages_and_tables_do_not_count(machine: Machine, vm: Build) -> None:
    plain, padded = vm(0), vm(1)
    padded.page(RAM)
    padded.table(3, RAM + 4 * MIB)
    assert sealed(machine, plain) == sealed(machine, padded)


@pytest.mark.raw_memory
def test_slot_and_frames_do_not_count(machine: Machine, vm: Build) -> None:
    first, second = vm(0), vm(42)
    for one in (first, second):
        one.page(content=b"the same")
    assert sealed(machine, first) == sealed(machine, second)


@pytest.mark.raw_memory
def test_every_bit_of_a_page_counts(machine: Machine, vm: Build) -> None:
    digests = set()
    for slot, position in enumerate((0, 7, 8 * 2048, 8 * PAGE - 1)):
        one = vm(slot)
        content = bytearray(PAGE)
        content[position // 8] ^= 1 << position % 8
        one.page(content=bytes(content))
        digests.add(sealed(machine, one))
        assert machine.vm_record(slot).measurement == one.measurement.digest
    assert len(digests) == 4


@pytest.mark.raw_memory
def test_the_measurement_is_sealed(scene: Scene) -> None:
    before = scene.machine.vm_record(scene.live.slot).measurement
    scene.machine.ok("map", vm=scene.live.slot, ipa=RAM + PAGE, frame=scene.frame, mode=0)
    assert scene.machine.vm_record(scene.live.slot).measurement == before


@pytest.mark.raw_memory
def test_a_refused_call_is_not_measured(machine: Machine, vm: Build) -> None:
    one = vm()
    one.page(content=b"measured")
    machine.call("map", vm=0, ipa=RAM, frame=machine.take(), mode=1)
    machine.call("vcpu_create", vm=0, index=1, frame=machine.take())
    assert machine.vm_record(0).measurement == one.measurement.digest
