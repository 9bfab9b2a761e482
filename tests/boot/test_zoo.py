"""Every kind of bus master that QEMU can plug in, all of them left running by firmware; and odd machines."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boot import machines
from boot.devices import edu, nvme, pci, virtio
from boot.devices.bus import load
from boot.machines import Booted
from bulkhead.image.memory_map import BLOCK, device
from bulkhead.image.variant import Edit, build_variant
from bulkhead.inspect import checks
from bulkhead.inspect.engine import stopped_view
from bulkhead.machine.errors import LinkError
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

ECAM, WINDOW = device("PCIE_ECAM"), device("PCIE_MMIO")
ABSENT = 0xFFFF
ACTIVE = 7
HEADER_TYPE, BRIDGE, BUS_NUMBERS = 0x0E, 1, 0x18
EXPANDER, PASSING = 0x80, 0x40
"""Numbers of two further root buses; what is on the second one passes by the SMMU."""
ZOO = (
    f"{edu.OPTION},addr=1.0,multifunction=on", "virtio-rng-pci,addr=1.1", "nvme,serial=2,addr=1.2",
    nvme.OPTION + ",addr=2",
    "virtio-rng-pci,iommu_platform=on,ats=on,disable-legacy=on,addr=3", "virtio-net-pci,romfile=,netdev=n0,addr=4",
    "pcie-root-port,id=root,chassis=1,addr=5", "x3130-upstream,id=up,bus=root",
    "xio3130-downstream,id=down,bus=up,chassis=2", "edu,bus=down",
    "pcie-pci-bridge,id=old,addr=6", "edu,bus=old,addr=1",
    f"pxb-pcie,id=expander,bus_nr={EXPANDER},addr=7",
    "pcie-root-port,id=there,bus=expander,chassis=3", "edu,bus=there",
    f"pxb-pcie,id=passing,bus_nr={PASSING},bypass_iommu=on,addr=8",
    "pcie-root-port,id=past,bus=passing,chassis=4", "virtio-rng-pci,bus=past",
    "igb,netdev=n1,romfile=,addr=a", "e1000e,netdev=n2,romfile=,addr=9", "qemu-xhci,addr=b", "ich9-ahci,addr=c",
    "sdhci-pci,addr=d", "pvpanic-pci,addr=e", "i6300esb,addr=f", "pci-testdev,addr=10",
    "ivshmem-plain,memdev=shared,addr=11", "ufs,serial=4,addr=12", "ich9-intel-hda,addr=13",
    "vmxnet3,netdev=n3,romfile=,addr=14",
    "virtio-mem-pci,memdev=plugged,addr=15", "rocker,addr=16", "virtio-balloon-pci,addr=17", "virtio-gpu-pci,addr=18",
    "pci-serial,addr=19", "virtio-serial-pci,addr=1c",
)  # fmt: skip
LISTED = (pci.page(1), pci.page(1, 2), pci.page(2))
BEHIND = (
    *("-m", "1G,maxmem=4G,slots=2"),
    *("-object", "memory-backend-ram,id=shared,size=1M", "-object", "memory-backend-ram,id=plugged,size=16M"),
    *(word for index in range(4) for word in ("-netdev", f"user,id=n{index}")),
)


def reachable(booted: Booted, address: int) -> bool:
    """Whether a 32-bit load by the host succeeds."""
    try:
        load(booted, address)
    except LinkError as error:
        assert error.code == 1
        return False
    return True


def functions(machine: QemuMachine, bus: int) -> list[int]:
    """Configuration pages of the functions of a bus."""
    outside = machines.Outside(machine)
    pages = [pci.page(slot, number, bus) for slot in range(32) for number in range(8)]
    return [page for page in pages if load(outside, page, 2) != ABSENT]


def pci_mappings(booted: Booted) -> set[int]:
    """What of PCIe the host's stage 2 maps."""
    with stopped_view(booted.machine, booted.symbols) as view:
        assert checks.isolation_faults(view) == []
        mapped = {one.output for one in view.host_mappings()}
    inside = (range(one.base, one.base + one.size) for one in (ECAM, WINDOW))
    spaces = list(inside)
    return {address for address in mapped if any(address in space for space in spaces)}


def test_every_kind_of_function_is_silent_and_unlisted_ones_are_nobodys() -> None:
    running: list[int] = []

    def leave_running(machine: QemuMachine) -> None:
        outside = machines.Outside(machine)

        def enumerate_bus(bus: int, free: int) -> int:
            """As firmware does: numbers the buses behind, depth first; the next free number."""
            for page in functions(machine, bus):
                running.append(page)
                outside.write(page + pci.COMMAND, ACTIVE.to_bytes(4, "little"))
                if load(outside, page + HEADER_TYPE, 1) & 0x7F == BRIDGE:
                    outside.write(page + BUS_NUMBERS, bytes((bus, free, 0xFF, 0)))
                    behind, free = free, enumerate_bus(free, free + 1)
                    outside.write(page + BUS_NUMBERS, bytes((bus, behind, free - 1, 0)))
            return free

        for root in (0, EXPANDER, PASSING):
            enumerate_bus(root, root + 1)

    config = QemuConfig(
        kernel=machines.image(),
        cpus=1,
        devices=tuple(one if "bus=" in one else f"{one},bus=pcie.0" for one in ZOO),
        extra=BEHIND,
    )
    with machines.boot(config, before=leave_running) as booted:
        outside = machines.Outside(booted.machine)
        assert len(running) == len(ZOO) + 1, "every function, and the host bridge"
        assert not any(load(outside, page + pci.COMMAND, 2) & ACTIVE for page in running)
        window = range(WINDOW.base, WINDOW.base + WINDOW.size, BLOCK)
        assert pci_mappings(booted) == {*LISTED, *window}
        assert [page for page in running if reachable(booted, page)] == list(LISTED)


def test_no_more_functions_that_must_be_reset_than_the_engine_can() -> None:
    config = QemuConfig(
        kernel=machines.image(), cpus=1, devices=tuple(f"nvme,serial={one}" for one in range(9))
    )
    with machines.boot(config) as booted:
        assert [slot for slot in range(32) if reachable(booted, pci.page(slot))] == list(range(1, 9))


def test_an_iommu_of_virtio_is_no_smmu() -> None:
    """It is a function of PCIe itself, lets everything pass at first, and is driven by whoever reaches it."""
    config = QemuConfig(
        kernel=machines.image(), cpus=1, smmu=False, devices=("virtio-iommu-pci", edu.OPTION, nvme.OPTION)
    )
    with machines.boot(config) as booted:
        assert "SMMU: there is none; no DMA" in booted.log()
        assert pci_mappings(booted) == set()
        assert booted.ok("features")[0] & 1 == 0


Driver = Callable[[machines.Outside], virtio.Mmio | virtio.Pci]
"""Finds a virtio network device."""
NETWORKS: dict[str, tuple[str, Driver, tuple[Edit, ...]]] = {
    "mmio": (
        "virtio-net-device",
        lambda bus: virtio.Mmio(bus, kind=virtio.NETWORK),
        (Edit("engine/image/src/boot.rs", "virtio::reset(machine.devices.virtio)?", "virtio::reset(0)?"),),
    ),
    "pci": (
        "virtio-net-pci,romfile=",
        lambda bus: virtio.Pci(pci.function(bus, 1)),
        (
            Edit("engine/image/src/pcie.rs", "    page.write(COMMAND, 0);\n", ""),
            Edit("engine/image/src/pcie.rs", "    page.read(COMMAND) & ACTIVE == 0\n", "    true\n"),
        ),
    ),
}
"""Network devices that pass by the SMMU, and what an engine must lack to leave them at work."""


def packet_arrives(image: Path, directory: Path, option: str, driver: Driver) -> bool:
    """Firmware leaves a virtio network device with a buffer to fill, past the SMMU; a packet comes when the host runs.
    Whether it is written to RAM.
    """
    queue, buffer = RAM_BASE + 192 * MIB, RAM_BASE + 200 * MIB
    ends = [f"{which}.type=unix,{which}.path={directory}/{which}" for which in ("local", "remote")]
    extra = (
        "-netdev",
        f"dgram,id=net,{','.join(ends)}",
        "-device",
        f"{option},netdev=net",
        *virtio.MODERN_MMIO,
    )

    def leave_running(machine: QemuMachine) -> None:
        driver(machines.Outside(machine)).start(queue).offer(buffer, 2048)

    config = QemuConfig(kernel=image, cpus=1, memory=512 * MIB, extra=extra)
    booting = machines.boot(config, before=leave_running)
    with booting as booted, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.sendto(b"\xff" * 64, f"{directory}/local")
        time.sleep(0.3)
        return any(os.pread(booted.machine.ram, 2048, buffer - RAM_BASE))


@pytest.mark.parametrize(("option", "driver", "lacking"), NETWORKS.values(), ids=NETWORKS.keys())
def test_what_firmware_left_with_virtio_is_not_used(
    tmp_path: Path, option: str, driver: Driver, lacking: tuple[Edit, ...]
) -> None:
    assert lacking
    assert not packet_arrives(machines.image(), tmp_path, option, driver)


@pytest.mark.slow
@pytest.mark.parametrize(("option", "driver", "lacking"), NETWORKS.values(), ids=NETWORKS.keys())
def test_an_engine_that_leaves_virtio_at_work(
    tmp_path: Path, option: str, driver: Driver, lacking: tuple[Edit, ...]
) -> None:
    assert packet_arrives(build_variant(lacking).image, tmp_path, option, driver)


def test_a_gic_without_its() -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=2, options="its=off")) as booted:
        assert not reachable(booted, device("GIC_ITS").base)
        assert booted.ok("features")[0] & 1
