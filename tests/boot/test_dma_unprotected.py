"""Engines without one protection against DMA: there the same device programs reach a VM's page.

So what `test_dma` shows is the protection's doing, and the programs in `boot.devices` are real drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from boot import machines
from boot.assembly import assemble
from boot.devices import edu, fw_cfg, its, nvme, pci, virtio
from boot.machines import Booted
from boot.rig import PAGE, VM_RAM, start_vm
from bulkhead.image.memory_map import BLOCK, device
from bulkhead.image.variant import Edit, build_variant
from bulkhead.machine.qemu import MIB, QemuConfig

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

MAP, SMMU = "tooling/bulkhead/image/memory_map.py", "engine/image/src/smmu.rs"
DEVICES = (edu.OPTION, nvme.OPTION, virtio.PCI_OPTION, virtio.MMIO_OPTION)
EDU, NVME, VIRTIO = 1, 2, 3
ENTROPY = 0x1005

EVERYTHING_REACHABLE = (
    Edit(MAP, '"FW_CFG", 0x0902_0000, 0x1000, Use.WITHHELD', '"FW_CFG", 0x0902_0000, 0x1000, Use.HOST'),
    Edit(MAP, "0x0A00_0000, 0x4000, Use.ENGINE", "0x0A00_0000, 0x4000, Use.BOTH"),
    Edit(MAP, "0x0808_0000, 0x1000, Use.ENGINE", "0x0808_0000, 0x1000, Use.BOTH"),
    Edit(
        MAP,
        '    PciFunction("EDU"',
        f'    PciFunction("RNG", 0x1AF4, {ENTROPY:#x}, ""),\n    PciFunction("EDU"',
    ),
    Edit(SMMU, "const STAGE_2_ONLY: u64 = 0b110 << 1;", "const STAGE_2_ONLY: u64 = 0b100 << 1;"),
)
ALL_LISTED = Edit(
    "engine/image/src/pcie.rs",
    "(0..).zip(&self.0).filter(|(_, listed)| **listed).map(",
    "(0..).zip(&self.0).map(",
)
NO_INVALIDATION = Edit(
    "engine/arch/src/smmu.rs", "    run(&[[CMD_TLBI_S12_VMALL | DMA_VMID << VMID_SHIFT, 0]]);\n", ""
)

NO_RESET = Edit("engine/arch/src/smmu.rs", "            write(register, FUNCTION_RESET);\n", "")


def machine(*edits: Edit) -> QemuConfig:
    """A machine with an engine changed so."""
    image = build_variant(edits).image
    return QemuConfig(kernel=image, cpus=1, memory=512 * MIB, devices=DEVICES, extra=virtio.MODERN_MMIO)


@dataclass
class Scene:
    """A machine in which the host reaches every bus master and the SMMU translates nothing, and a VM's pages."""

    booted: Booted
    targets: list[int]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """One machine for the file; each test takes a page."""
    with machines.boot(machine(*EVERYTHING_REACHABLE)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        pages = [VM_RAM + index * PAGE for index in range(1, 9)]
        vm = start_vm(booted, 0, {VM_RAM: assemble("wfi"), **dict.fromkeys(pages, b"private")})
        yield Scene(booted, [vm.pages[page] for page in pages])


def by_edu(booted: Booted, work: int, target: int) -> None:
    """The DMA engine."""
    edu.Edu(pci.function(booted, EDU)).copy(work, target, 64)


def by_message(booted: Booted, work: int, target: int) -> None:
    """A message-signalled interrupt."""
    edu.Edu(pci.function(booted, EDU)).message(target, 0x5A5A)


def by_nvme(booted: Booted, work: int, target: int) -> None:
    """A completion queue."""
    booted.write(work, nvme.identify(work + 2 * PAGE))
    controller = nvme.Nvme(pci.function(booted, NVME))
    controller.start(work, target)
    controller.ring()
    controller.settle()


def by_fw_cfg(booted: Booted, work: int, target: int) -> None:
    """fw_cfg's DMA register."""
    assert fw_cfg.copy(booted, work, target) == 0


def by_its(booted: Booted, work: int, target: int) -> None:
    """A command of the ITS."""
    its_ = its.Its(booted)
    its_.start(work, target)
    its_.map_device(0, work)


def by_virtio_mmio(booted: Booted, work: int, target: int) -> None:
    """An entropy source on an MMIO transport."""
    fill(virtio.Mmio(booted), booted, work, target)


def by_virtio_pci(booted: Booted, work: int, target: int) -> None:
    """An entropy source on PCI, which passes by the SMMU."""
    fill(virtio.Pci(pci.function(booted, VIRTIO)), booted, work, target)


def fill(device: virtio.Pci | virtio.Mmio, booted: Booted, work: int, target: int) -> None:
    """One buffer of random bytes at the target."""
    queue = device.start(work)
    queue.offer(target, 64)
    device.kick()
    booted.machine.wait_until(lambda: queue.used == 1, 10, "the entropy source")


@pytest.mark.parametrize(
    "write",
    [by_edu, by_message, by_nvme, by_fw_cfg, by_its, by_virtio_mmio, by_virtio_pci],
    ids=lambda one: one.__name__,
)
def test_without_protection_a_device_writes_to_a_vm(
    scene: Scene, write: Callable[[Booted, int, int], None]
) -> None:
    booted, target = scene.booted, scene.targets.pop()
    work = booted.boot_info.split_block[0] + 16 * BLOCK
    booted.write(work, bytes(PAGE))
    booted.write(work + PAGE, b"\xee" * PAGE)
    before = booted.raw(target, PAGE)
    write(booted, work, target)
    assert booted.raw(target, PAGE) != before


def test_without_invalidation_a_closed_window_stays_open() -> None:
    with machines.boot(machine(NO_INVALIDATION)) as booted:
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        device = edu.Edu(pci.function(booted, EDU))
        booted.write(block, b"arrived")
        booted.ok("dma_allow", block)
        device.copy(block, block + PAGE, 7)
        booted.ok("dma_revoke", block)
        device.write_ram(block + 2 * PAGE, 7)
        assert booted.raw(block + 2 * PAGE, 7) == b"arrived"


def test_without_protection_a_virtual_function_writes_to_a_vm() -> None:
    config = replace(machine(EVERYTHING_REACHABLE[-1], ALL_LISTED), devices=nvme.VIRTUAL_OPTIONS)
    bar = device("PCIE_MMIO").base + 0x100_0000
    with machines.boot(config) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        vm = start_vm(booted, 0, {VM_RAM: assemble("wfi"), VM_RAM + PAGE: b"private"})
        target, work = vm.pages[VM_RAM + PAGE], booted.boot_info.split_block[0] + 16 * BLOCK
        page = nvme.bring_up_virtual(pci.function(booted, 1), work + 4 * PAGE, bar)
        pci.Function(booted, page).enable()
        booted.write(work, nvme.identify(work + 2 * PAGE))
        before = booted.raw(target, PAGE)
        nvme.ring_blindly(booted, bar, work, target)
        assert booted.raw(target, PAGE) != before


def test_without_a_reset_a_transfer_outlasts_its_window() -> None:
    config = replace(machine(NO_RESET), devices=nvme.SLOW_OPTIONS, extra=nvme.SLOW_DRIVE)
    with machines.boot(config) as booted:
        queues, target = (booted.boot_info.split_block[0] + (16 + index) * BLOCK for index in range(2))
        for block in (queues, target):
            booted.write(block, b"touched")
            booted.ok("dma_allow", block)
        assert nvme.late_reads(booted, 1, queues, target, lambda: booted.ok("dma_revoke", target)) > 0
