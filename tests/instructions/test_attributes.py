"""Attributes of descriptors: of the shipped engine after boot and calls, and what is noticed if one bit is wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.testing.builder import RAM
from bulkhead.image.build import build
from bulkhead.image.memory_map import window
from bulkhead.inspect import attributes
from bulkhead.inspect.engine import EngineView, stopped_view
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.spec import stage2

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
REGISTERS = ("MAIR_EL2", "TCR_EL2", "VTCR_EL2")


@pytest.fixture(scope="module")
def backend() -> Iterator[QemuBackend]:
    one = QemuBackend(build("pinned", "payload"), devices=("edu",))
    yield one
    one.close()


@pytest.fixture(scope="module")
def vm(backend: QemuBackend) -> Vm:
    """One with a page, a block, and a page that the host has split; the host has a DMA window."""
    machine = Machine(backend)
    vm = Vm(machine)
    vm.page()
    vm.block(RAM + (4 << 20))
    machine.ok("dma_allow", block=machine.take_block())
    machine.ok("host_split", block=machine.take_block(), table=machine.take())
    return vm


def test_all_descriptors_have_the_specified_attributes(backend: QemuBackend, vm: Vm) -> None:
    """Those of host, devices, VM and engine."""
    with stopped_view(backend.machine, backend.symbols) as view:
        assert attributes.faults(view) == []
        assert {one.level for one in view.host_mappings()} == {2, 3}
        assert {one.level for one in view.vm_mappings(vm.slot)} == {2, 3}
        assert list(view.device_mappings())


@pytest.mark.parametrize("descriptor", [stage2.PAGE, stage2.BLOCK])
def test_the_specification_says_the_same_in_one_number(descriptor: int) -> None:
    """What calls write is compared with these; here they are taken apart."""
    assert attributes.decode(attributes.STAGE2, descriptor) == attributes.RAM


def test_the_registers_that_give_them_meaning(backend: QemuBackend) -> None:
    """MAIR_EL2, and how the walkers themselves access memory."""
    with backend.machine.paused():
        stub = GdbStub(backend.machine.gdb, backend.machine.wait_until)
        values = {name: stub.register(name) for name in REGISTERS}
    assert attributes.register_faults(values) == []
    assert attributes.register_faults(values | {"MAIR_EL2": values["MAIR_EL2"] & ~0xFF})
    assert attributes.register_faults(values | {"VTCR_EL2": values["VTCR_EL2"] ^ 1 << 12})


def fresh(backend: QemuBackend, view: EngineView) -> EngineView:
    """The same machine, nothing remembered."""
    ram = RamSnapshot(backend.machine.ram, view.ram.base, view.ram.size)
    return EngineView(ram, view.symbols, view.el2_root, view.host_root)


def place(view: EngineView, vm: Vm, whose: str) -> int:
    """Physical address of a leaf."""
    if whose == "the host":
        return view.physical(
            window("HOST_L2").base + 8 * next(n for n, one in enumerate(view.blocks) if one.kind == 1)
        )
    if whose == "devices":
        return view.physical(
            window("DMA_L2").base + 8 * next(n for n, one in enumerate(view.blocks) if one.kind == 7)
        )
    if whose == "the engine":
        return view.el2_root + 8 * (window("IMAGE").base >> 39)
    return vm.tables[3, RAM]


@pytest.mark.parametrize(
    ("whose", "bit", "said"),
    [
        ("the host", 8, "SH=0b10"),
        ("the host", 2, "MemAttr=0b1110"),
        ("the host", 52, "Contiguous=0b1"),
        ("VM 0", 10, "specified is MemAttr=0b1111, S2AP=0b11, SH=0b11, AF=0b1"),
        ("VM 0", 54, "XN=0b10"),
        ("VM 0", 7, "S2AP=0b1,"),
        ("devices", 5, "MemAttr=0b111,"),
        ("the engine", 61, "names a table with 0x2000000000000003"),
    ],
)
def test_a_bit_that_is_wrong_is_noticed(
    backend: QemuBackend, vm: Vm, whose: str, bit: int, said: str
) -> None:
    """Changed in RAM while the machine stands still."""
    with stopped_view(backend.machine, backend.symbols) as view:
        address = place(view, vm, whose)
        before = view.ram.word(address)
        backend.poke(address, struct.pack("<Q", before ^ 1 << bit))
        found = attributes.faults(fresh(backend, view))
        backend.poke(address, struct.pack("<Q", before))
        assert any(one.startswith(f"{whose}'s") and said in one for one in found), found
        assert attributes.faults(fresh(backend, view)) == []
