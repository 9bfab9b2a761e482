"""Devices: the SMMU is closed before anything else, LPIs are off, and the host reaches what the list allows only."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import fdt
import pytest

from boot import machines
from boot.machines import Booted, Spoil
from bulkhead.image.memory_map import BLOCK, VIRT, Device, Use, device
from bulkhead.inspect import checks
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.records import Kind
from bulkhead.machine.errors import LinkError
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

CPUS = 2
GBPA, GBPA_ABORT = 0x44, 1 << 20
GICR_CTLR, GICR_PROPBASER, GICR_PENDBASER = 0x0, 0x70, 0x78
DATA_ABORT = 0x25
TREE = RAM_BASE + 128 * MIB
"""Where QEMU puts the device tree of a machine with 256 MiB; it takes 1 MiB."""
FAULT = 1
"""Code of a refusal by the payload: the access faulted."""


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    """One machine for the file."""
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=CPUS)) as booted:
        yield booted


def register(booted: Booted, address: int) -> int:
    """A 32-bit device register at a physical address, read by QEMU's monitor."""
    return int(booted.machine.monitor(f"xp /1xw {address:#x}").split(":")[1], 16)


def reachable(booted: Booted, address: int) -> bool:
    """Whether a 32-bit load by the host succeeds."""
    try:
        booted.read(address, 4)
    except LinkError as error:
        assert error.code == FAULT
        assert error.fields["esr"] >> 26 == DATA_ABORT
        return False
    return True


def instances(one: Device) -> list[int]:
    """Base address of each instance on this machine."""
    return [one.base + cpu * one.stride for cpu in range(CPUS if one.stride else 1)]


@pytest.mark.parametrize("one", VIRT, ids=lambda one: one.name)
def test_the_host_reaches_what_is_listed(booted: Booted, one: Device) -> None:
    allowed = one.use in (Use.HOST, Use.BOTH)
    for base in instances(one):
        assert reachable(booted, base) is allowed
        assert reachable(booted, base + one.size - 4) is allowed


def test_redistributors_of_cpus_that_do_not_exist(booted: Booted) -> None:
    one = device("GICR_SGI")
    assert not reachable(booted, one.base + CPUS * one.stride)


def test_the_engines_ram_is_out_of_reach(booted: Booted) -> None:
    with stopped_view(booted.machine, booted.symbols) as view:
        blocks = range(view.ram.base, view.ram.base + view.ram.size, BLOCK)
        engine = [block for block in blocks if view.owner(block).kind == Kind.ENGINE]
    assert engine
    for block in engine:
        assert not reachable(booted, block)
        assert not reachable(booted, block + BLOCK - 4)


def test_the_smmu_aborts(booted: Booted) -> None:
    assert register(booted, device("SMMU").base + GBPA) & GBPA_ABORT


def test_no_lpis(booted: Booted) -> None:
    for base in instances(device("GICR_RD")):
        assert register(booted, base + GICR_CTLR) & 1 == 0
        for offset in (GICR_PROPBASER, GICR_PENDBASER):
            assert register(booted, base + offset) == register(booted, base + offset + 4) == 0


def test_an_its_that_firmware_left_on_is_off() -> None:
    its = device("GIC_ITS").base
    left: list[int] = []

    def enable(machine: QemuMachine) -> None:
        machines.Breakpoints(machine.gdb, machine.wait_until).poke(its, 1)
        left.append(int(machine.monitor(f"xp /1xw {its:#x}").split(":")[1], 16))

    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1), before=enable) as booted:
        assert left[0] & 1
        assert register(booted, its) & 1 == 0


def test_the_first_access_to_any_device_closes_the_smmu(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("trace") / "trace.log"
    extra = ("-trace", "memory_region_ops_*", "-D", str(log))
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1, extra=extra)):
        pass
    accesses = re.findall(
        r"memory_region_ops_(read|write) .* addr (0x[0-9a-f]+) value (0x[0-9a-f]+)", log.read_text()
    )
    # Before the CPU runs QEMU itself touches nothing that is traced.
    kind, address, value = next(access for access in accesses if access[0] == "write")
    first = accesses[0]
    gbpa = device("SMMU").base + GBPA
    assert int(first[1], 16) == gbpa
    assert (kind, int(address, 16)) == ("write", gbpa)
    assert int(value, 16) & GBPA_ABORT


def reserve(node: tuple[int, int], entry: tuple[int, int]) -> Spoil:
    """A tree with one range, base and bytes, in `/reserved-memory` and one in the reservation block."""

    def change(tree: bytearray) -> None:
        parsed = fdt.parse_dtb(bytes(tree))
        parsed.set_property("#address-cells", 2, "/reserved-memory")
        parsed.set_property("#size-cells", 2, "/reserved-memory")
        parsed.set_property("reg", [0, node[0], 0, node[1]], f"/reserved-memory/firmware@{node[0]:x}")
        changed = parsed.to_dtb(version=17)
        place = len(changed)
        # The reservation block: one entry, then the end.
        changed += struct.pack(">QQQQ", *entry, 0, 0)
        changed = changed[:16] + struct.pack(">I", place) + changed[20:]
        changed = changed[:4] + struct.pack(">I", len(tree)) + changed[8:]
        tree[: len(changed)] = changed

    return change


def test_ram_that_firmware_keeps_is_nobodys() -> None:
    node, entry = RAM_BASE + 96 * MIB, RAM_BASE + 200 * MIB
    change = reserve((node + 0x3000, 0x1000), (entry, BLOCK))
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB), change) as booted:
        log = booted.log()
        assert f"reserved by firmware {entry:#x}..{entry + BLOCK:#x}" in log
        assert f"reserved by firmware {node + 0x3000:#x}..{node + 0x4000:#x}" in log
        told = booted.boot_info.host_ram
        for block in (node, entry):
            assert not reachable(booted, block)
            assert not any(base <= block < base + size for base, size in told)
            assert reachable(booted, block - 4)
            assert reachable(booted, block + BLOCK)
        with stopped_view(booted.machine, booted.symbols) as view:
            assert {view.owner(block).kind for block in (node, entry)} == {Kind.ENGINE}
            assert checks.isolation_faults(view) == []


@pytest.mark.parametrize("base", [TREE - BLOCK, TREE], ids=["begins before the tree", "begins with the tree"])
def test_ram_that_firmware_keeps_is_nobodys_with_the_tree_in_it(base: int) -> None:
    size = TREE + 2 * BLOCK - base
    change = reserve((base, size), (TREE, MIB))
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB), change) as booted:
        assert f"reserved by firmware {base:#x}..{base + size:#x}" in booted.log()
        assert f"{TREE:#x} is not the host's" in booted.log()
        assert booted.boot_info.device_tree == (0, 0)
        assert not any(reachable(booted, block) for block in range(base, base + size, BLOCK))
        assert reachable(booted, base - 4)
        assert reachable(booted, base + size)


def test_a_reservation_of_the_tree_alone_is_no_firmwares() -> None:
    change = reserve((TREE, MIB), (TREE, 0x1800))
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB), change) as booted:
        assert "reserved by firmware" not in booted.log()
        assert booted.boot_info.device_tree == (TREE, MIB)
        assert booted.read(TREE, 4) == machines.TREE_MAGIC
