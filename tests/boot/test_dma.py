"""DMA by real devices: it arrives in windows that the host has opened, and nowhere else.

RAM is looked at from outside; the devices are programmed register by register (`boot.devices`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from boot import machines
from boot.assembly import assemble
from boot.devices import edu, fw_cfg, its, nvme, pci, virtio
from boot.machines import Booted
from boot.rig import PAGE, VM_RAM, Vm, start_vm
from bulkhead import abi
from bulkhead.image.memory_map import BLOCK, device, window
from bulkhead.inspect import checks
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.pagetable import leaves
from bulkhead.inspect.records import VM_SLOTS
from bulkhead.machine.errors import EnginePanic, LinkError
from bulkhead.machine.qemu import MIB, QemuConfig

pytestmark = pytest.mark.qemu

EDU, NVME = 1, 2
PATTERN = bytes(range(1, 65))
SECRET = b"what only the VM may know".ljust(64, b".")
STATUS = {one.name: one.value for one in abi.load().statuses}
CONFIG = QemuConfig(
    kernel=machines.image(), cpus=1, memory=512 * MIB, devices=(edu.OPTION, nvme.OPTION, virtio.PCI_OPTION)
)

# SMMUv3 registers, IHI 0070 6.3, and words of a stream table entry, 5.2.
CR0, CR1, CR2, GBPA, IRQ_CTRL, STRTAB_BASE, STRTAB_CFG = 0x20, 0x28, 0x2C, 0x44, 0x50, 0x80, 0x88
TRANSLATING = 1 << 3 | 1
STREAMS, ENTRY = 256, 64
ADDRESS = 0xFFFF_FFFF_F000


@dataclass
class Scene:
    """A machine with two windows, a closed block, a VM and the devices; `targets` are out of the devices' reach."""

    booted: Booted
    edu: edu.Edu
    vm: Vm
    window: int
    other: int
    closed: int
    targets: dict[str, int]

    def arrives(self, target: int) -> bool:
        """Whether the device's write to `target` gets there; it is what lies in the window."""
        self.booted.write(self.window, PATTERN)
        self.edu.read_ram(self.window, len(PATTERN))
        before = self.booted.raw(target, PAGE)
        self.edu.write_ram(target, len(PATTERN))
        after = self.booted.raw(target, PAGE)
        assert after[len(PATTERN) :] == before[len(PATTERN) :]
        assert after[: len(PATTERN)] in (before[: len(PATTERN)], PATTERN)
        return after != before or before.startswith(PATTERN)


def engine_frames(booted: Booted) -> dict[str, int]:
    """Physical addresses of what the engine lives from."""
    with stopped_view(booted.machine, booted.symbols) as view:
        return {
            "engine text": view.physical(window("IMAGE").base) + 16 * PAGE,
            "frame records": view.physical(window("FRAMES").base),
            "the devices' own table": view.physical(window("DMA_L2").base),
            "host context": view.physical(window("PERCPU").base + 0xF000),
            "host table": view.host_root & -PAGE,
        }


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """One machine for the file. Blocks behind the split one are the host's and whole."""
    with machines.boot(CONFIG) as booted:
        split = booted.boot_info.split_block[0]
        booted.next_frame = split + PAGE
        opened, other, closed = (split + (16 + index) * BLOCK for index in range(3))
        for block in (opened, other, closed):
            booted.write(block, b"touched")
        booted.ok("dma_allow", opened)
        vm = start_vm(booted, 0, {VM_RAM: assemble("wfi"), VM_RAM + PAGE: SECRET})
        targets = {
            "a VM's page": vm.pages[VM_RAM + PAGE],
            "a vCPU's context": vm.contexts[0],
            "a block of the host": closed,
            **engine_frames(booted),
        }
        yield Scene(booted, edu.Edu(pci.function(booted, EDU)), vm, opened, other, closed, targets)


def test_dma_in_a_window_arrives(scene: Scene) -> None:
    assert scene.arrives(scene.window + BLOCK - PAGE)


TARGETS = (
    "a VM's page", "a vCPU's context", "a block of the host",
    "engine text", "frame records", "the devices' own table", "host context", "host table",
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_dma_elsewhere_changes_nothing(scene: Scene, target: str) -> None:
    assert set(TARGETS) == set(scene.targets)
    assert not scene.arrives(scene.targets[target])


@pytest.mark.parametrize("target", TARGETS)
def test_dma_elsewhere_reads_nothing(scene: Scene, target: str) -> None:
    address = scene.targets[target]
    content = scene.booted.raw(address, len(PATTERN))
    assert content.strip(b"\0") or target not in ("a VM's page", "engine text")
    assert scene.arrives(scene.window + PAGE)
    # The buffer holds the pattern; whatever the failed read leaves there goes to the window.
    scene.edu.copy(address, scene.window + PAGE, len(PATTERN))
    seen = scene.booted.raw(scene.window + PAGE, len(PATTERN))
    assert seen in (PATTERN, bytes(len(PATTERN)))


def test_a_transfer_across_the_edge_of_a_window_stops_there(scene: Scene) -> None:
    end = scene.window + BLOCK
    scene.booted.write(scene.window, PATTERN)
    scene.edu.read_ram(scene.window, len(PATTERN))
    before = scene.booted.raw(end, PAGE)
    scene.edu.write_ram(end - 16, len(PATTERN))
    assert scene.booted.raw(end, PAGE) == before


def test_after_revoke_nothing_arrives(scene: Scene) -> None:
    booted = scene.booted
    for _ in range(3):
        booted.ok("dma_allow", scene.other)
        # The SMMU has the translation now.
        assert scene.arrives(scene.other)
        booted.ok("dma_revoke", scene.other)
        booted.write(scene.other, bytes(PAGE))
        assert not scene.arrives(scene.other)
    # The other window is as open as before.
    assert scene.arrives(scene.window + 3 * PAGE)


def test_what_a_window_was_can_be_a_vms(scene: Scene) -> None:
    booted = scene.booted
    booted.ok("dma_allow", scene.other)
    assert scene.arrives(scene.other)
    frame = booted.call("host_split", scene.other, booted.next_frame)
    assert frame[0] == STATUS["NOT_OWNED"] & (1 << 64) - 1
    booted.ok("dma_revoke", scene.other)
    booted.ok("vm_create", 1, booted.take(), 1, 0, VM_RAM, 16 * MIB)
    booted.ok("table_donate", 1, VM_RAM, 2, booted.take())
    booted.ok("map_block", 1, VM_RAM, scene.other)
    assert not scene.arrives(scene.other)
    assert not booted.raw(scene.other, BLOCK).strip(b"\0")
    booted.ok("vm_kill", 1)
    booted.ok("reclaim_block", scene.other)


@pytest.mark.parametrize("target", ["a VM's page", "frame records"])
def test_a_message_is_a_write_like_others(scene: Scene, target: str) -> None:
    scene.booted.write(scene.window, bytes(8))
    scene.edu.message(scene.window, 0x5A5A)
    assert scene.booted.raw(scene.window, 4) == struct.pack("<I", 0x5A5A)
    before = scene.booted.raw(scene.targets[target], PAGE)
    scene.edu.message(scene.targets[target], 0x5A5A)
    assert scene.booted.raw(scene.targets[target], PAGE) == before


def start_nvme(scene: Scene, submission: int, completion: int) -> nvme.Nvme:
    """The controller with its admin queues there, and one identify command to the window's third page rung for."""
    queue, target = scene.window + 8 * PAGE, scene.window + 10 * PAGE
    scene.booted.write(queue, bytes(2 * PAGE) + b"\xee" * PAGE)
    scene.booted.write(queue, nvme.identify(target))
    controller = nvme.Nvme(pci.function(scene.booted, NVME))
    controller.start(submission, completion)
    controller.ring()
    controller.settle()
    return controller


def test_nvme_works_inside_the_window(scene: Scene) -> None:
    queue = scene.window + 8 * PAGE
    controller = start_nvme(scene, queue, queue + PAGE)
    assert not controller.failed
    assert scene.booted.raw(queue + 2 * PAGE, 2) == struct.pack("<H", 0x1B36)


@pytest.mark.parametrize("target", TARGETS)
def test_nvme_with_a_queue_elsewhere(scene: Scene, target: str) -> None:
    queue, address = scene.window + 8 * PAGE, scene.targets[target]
    before = scene.booted.raw(address, PAGE)
    for queues in ((address, queue + PAGE), (queue, address)):
        assert start_nvme(scene, *queues).failed
        assert scene.booted.raw(address, PAGE) == before


def test_nvme_data_elsewhere(scene: Scene) -> None:
    queue, address = scene.window + 8 * PAGE, scene.targets["a VM's page"]
    before = scene.booted.raw(address, PAGE)
    controller = start_nvme(scene, queue, queue + PAGE)
    scene.booted.write(queue + nvme.COMMAND_SIZE, nvme.identify(address, 2))
    controller.ring()
    controller.settle()
    assert scene.booted.raw(address, PAGE) == before


def test_bus_masters_outside_the_smmu_are_out_of_reach(scene: Scene) -> None:
    booted, target = scene.booted, scene.targets["a VM's page"]
    control = scene.closed
    attempts = (
        lambda: fw_cfg.copy(booted, control, target),
        lambda: its.Its(booted).start(control, target),
        lambda: virtio.Mmio(booted),
        lambda: virtio.Pci(pci.function(booted, NVME + 1)),
    )
    before = booted.raw(target, PAGE)
    for attempt in attempts:
        with pytest.raises(LinkError) as error:
            attempt()
        assert error.value.code == 1
    assert booted.raw(target, PAGE) == before


def smmu(booted: Booted, offset: int, words: int = 1) -> int:
    """A register of the SMMU, read by QEMU's monitor."""
    shown = booted.machine.monitor(f"xp /{words}xw {device('SMMU').base + offset:#x}")
    values = [int(word, 16) for word in shown.split(":")[1].split()]
    return sum(value << 32 * index for index, value in enumerate(values))


def test_what_the_smmu_has_been_told(scene: Scene) -> None:
    booted = scene.booted
    assert smmu(booted, CR0) == TRANSLATING
    assert smmu(booted, CR1) == 0xD75
    assert smmu(booted, CR2) == 1 << 2
    assert smmu(booted, GBPA) >> 20 & 1
    assert smmu(booted, IRQ_CTRL) == 0
    assert smmu(booted, STRTAB_CFG) == 8
    table = smmu(booted, STRTAB_BASE, 2) & ADDRESS
    with stopped_view(booted.machine, booted.symbols) as view:
        entries = struct.iter_unpack("<8Q", view.ram.read(table, STREAMS * ENTRY))
        valid = {stream: entry for stream, entry in enumerate(entries) if entry[0] & 1}
        assert set(valid) == {EDU << 3, NVME << 3}
        roots = {entry[3] & ADDRESS for entry in valid.values()}
        for first, second, walk, *_ in valid.values():
            assert first == 0b1101
            assert second >> 28 & 3 == 0
            # VMID of no domain; S2T0SZ 20, level 0, Write-Back inner shareable, 4 KiB, 44 bits, AArch64, no stall.
            assert walk & 0xFFFF == VM_SLOTS + 1
            assert walk >> 32 & 0xFFFFF == 20 | 2 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 16 | 1 << 19
            assert walk >> 57 & 1 == 0
        (root,) = roots
        reached = {(one.address, one.output, one.size) for one in leaves(view.ram.words, root, 0)}
        assert reached == {(scene.window, scene.window, BLOCK)}
        assert checks.isolation_faults(view) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, smmu=False), "SMMU: there is none; no DMA"),
        (
            replace(CONFIG, extra=("-machine", "virt-9.1", "-global", "arm-smmuv3.stage=1")),
            "SMMU: no stage 2 (IDR0.S2P); no DMA",
        ),
    ],
    ids=["no SMMU", "stage 1 only"],
)
def test_without_a_usable_smmu_there_are_no_windows(config: QemuConfig, said: str) -> None:
    with machines.boot(config) as booted:
        assert said in booted.log()
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        booted.write(block, b"touched")
        for call in ("dma_allow", "dma_revoke"):
            assert booted.call(call, block)[0] == STATUS["NOT_SUPPORTED"] & (1 << 64) - 1
        assert booted.ok("features")[0] & 1 == 0
        for slot in (EDU, NVME):
            with pytest.raises(LinkError):
                assert pci.function(booted, slot).ids
        if config.smmu:
            assert smmu(booted, CR0) == 0
            assert smmu(booted, GBPA) >> 20 & 1


@pytest.mark.parametrize("asleep", [False, True], ids=["at work", "asleep"])
def test_a_transfer_under_way_ends_before_the_window_is_closed(asleep: bool) -> None:
    """An emulated drive keeps the addresses of reads that it has not served yet, also in D3 and silent."""
    config = replace(CONFIG, devices=nvme.SLOW_OPTIONS, extra=nvme.SLOW_DRIVE)
    with machines.boot(config) as booted:
        queues, target = (booted.boot_info.split_block[0] + (16 + index) * BLOCK for index in range(2))
        for block in (queues, target):
            booted.write(block, b"touched")
            booted.ok("dma_allow", block)
        function = pci.function(booted, 1)

        def close() -> None:
            if asleep:
                function.sleep()
            booted.ok("dma_revoke", target)
            if asleep:
                function.wake()

        assert nvme.late_reads(booted, 1, queues, target, close) == 0
        if asleep:
            return
        # The reset has taken the function's command bits; the host sets it up anew, and it works.
        assert function.config(pci.COMMAND, 2) & (pci.MEMORY | pci.MASTER) == 0
        booted.ok("dma_allow", target)
        booted.write(target, b"\xff" * PAGE)
        nvme.Nvme(function).start_reading(queues, target)
        booted.machine.wait_until(lambda: not booted.raw(target, PAGE).strip(b"\0"), 10, "the read")


def test_an_smmu_that_does_not_answer_stops_the_engine() -> None:
    """Nobody may hear that a window is closed when it is not known to be."""
    with machines.boot(CONFIG) as booted:
        block = booted.boot_info.split_block[0] + 16 * BLOCK
        booted.write(block, b"touched")
        booted.ok("dma_allow", block)
        with booted.machine.paused():
            # Translation stays on, the command queue goes off.
            machines.Breakpoints(booted.machine.gdb, booted.machine.wait_until).poke(
                device("SMMU").base + CR0, 1
            )
        with pytest.raises(EnginePanic, match="the SMMU does not complete its commands"):
            booted.call("dma_revoke", block)


def test_windows_are_a_feature(scene: Scene) -> None:
    assert scene.booted.ok("features")[0] & 1
