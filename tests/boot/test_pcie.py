"""PCIe functions: the listed ones are the host's if the SMMU sees them, all others are silent and out of reach."""

from __future__ import annotations

import fdt
import pytest

from boot import machines
from boot.devices import edu, nvme, pci, virtio
from boot.machines import Booted, Spoil
from boot.trees import rewrite
from bulkhead.image.memory_map import BLOCK, PCI_FUNCTIONS, device
from bulkhead.inspect.engine import stopped_view
from bulkhead.machine.errors import LinkError
from bulkhead.machine.qemu import QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

ECAM, WINDOW = device("PCIE_ECAM"), device("PCIE_MMIO")
BRIDGE = "pcie-root-port,id=below,chassis=1"
ALL = (
    edu.OPTION,
    nvme.OPTION,
    virtio.PCI_OPTION,
    "virtio-net-pci,romfile=,netdev=n",
    BRIDGE,
    "edu,bus=below",
)
BUS_NUMBERS = 0x18
NET = ("-netdev", "user,id=n")
VIRTUAL = (*nvme.VIRTUAL_OPTIONS, "igb,netdev=n,romfile=")
"""Functions with virtual functions: a listed one in slot 1, an unlisted one in slot 2."""
LISTED_SLOTS = {1, 2}


def config(*devices: str, smmu: bool = True) -> QemuConfig:
    """A machine with these PCIe devices."""
    return QemuConfig(kernel=machines.image(), cpus=1, devices=devices, smmu=smmu, extra=NET)


def reachable(booted: Booted, address: int) -> bool:
    """Whether a 32-bit load by the host succeeds."""
    try:
        booted.read(address, 4)
    except LinkError as error:
        assert error.code == 1
        return False
    return True


def register(machine: QemuMachine, slot: int, bus: int = 0) -> int:
    """The Command register as QEMU has it."""
    shown = machine.monitor(f"xp /1xh {pci.page(slot, bus=bus) + pci.COMMAND:#x}")
    return int(shown.split(":")[1], 16)


def device_pages(booted: Booted) -> set[int]:
    """Addresses of PCIe that the host's stage 2 maps."""
    with stopped_view(booted.machine, booted.symbols) as view:
        mapped = {one.output: one.size for one in view.host_mappings()}
    return {
        base
        for base in mapped
        if WINDOW.base <= base < WINDOW.base + WINDOW.size or ECAM.base <= base < ECAM.base + ECAM.size
    }


def test_listed_functions_are_the_hosts() -> None:
    with machines.boot(config(*ALL)) as booted:
        ids = {pci.function(booted, slot).ids for slot in LISTED_SLOTS}
        assert ids == {(one.vendor, one.device) for one in PCI_FUNCTIONS}
        # Slot 0 is the host bridge; the slots after the listed ones have virtio and a port.
        for slot in set(range(32)) - LISTED_SLOTS:
            for function in range(8):
                assert not reachable(booted, pci.page(slot, function))
        assert not reachable(booted, pci.page(1, 1))
        assert not reachable(booted, pci.page(0, bus=1))
        assert device_pages(booted) == {pci.page(slot) for slot in LISTED_SLOTS} | set(
            range(WINDOW.base, WINDOW.base + WINDOW.size, BLOCK)
        )
        assert "SMMU: translates for 2 PCIe functions" in booted.log()


def test_without_a_listed_function_nothing_is_mapped() -> None:
    with machines.boot(config(virtio.PCI_OPTION, BRIDGE)) as booted:
        assert device_pages(booted) == set()


def unmapped(tree: bytearray) -> None:
    """The tree does not lead the streams of PCIe through the SMMU."""
    assert tree.count(b"iommu-map\0") == 1
    tree[:] = tree.replace(b"iommu-map\0", b"iommu-mop\0")


def led(*words: int) -> Spoil:
    """The tree leads streams as listed: first function, controller (0: the SMMU), first stream, how many."""

    def edit(tree: fdt.FDT) -> None:
        controller = tree.get_property("phandle", "/smmuv3@9050000").value
        places = [controller if word == 0 and index % 4 == 1 else word for index, word in enumerate(words)]
        tree.set_property("iommu-map", places, "/pcie@10000000")

    return rewrite(edit)


LEADS = {
    "not at all": unmapped,
    "to other streams": led(0, 0, 0x100, 0x10000),
    "to another controller": led(0, 0xDEAD, 0, 0x10000),
    "some functions only": led(0, 0, 0, 0xFF),
    "the second bus first": led(0x100, 0, 0x100, 0xFF00, 0, 0, 0, 0x100),
    "cut": led(0, 0, 0),
}


def test_without_an_smmu_nothing_is_mapped() -> None:
    nothing_is_mapped(config(*ALL, smmu=False), None, "SMMU: there is none; no DMA")


@pytest.mark.parametrize("change", LEADS.values(), ids=LEADS.keys())
def test_where_the_tree_does_not_lead_pcie_through_the_smmu_nothing_is_mapped(change: Spoil) -> None:
    nothing_is_mapped(config(*ALL), change, "0 PCIe functions")


def test_a_tree_that_leads_pcie_through_the_smmu_as_qemus_does() -> None:
    with machines.boot(config(*ALL), led(0, 0, 0, 0x10000)) as booted:
        assert "SMMU: translates for 2 PCIe functions" in booted.log()


def nothing_is_mapped(config: QemuConfig, change: Spoil | None, said: str) -> None:
    """On this machine the host reaches nothing of PCIe, and the log says why."""
    with machines.boot(config, change) as booted:
        assert device_pages(booted) == set()
        assert said in booted.log()
        assert not reachable(booted, pci.page(1))
        assert not reachable(booted, WINDOW.base)
        assert not reachable(booted, WINDOW.base + WINDOW.size - 4)


def test_a_function_plugged_in_later_is_nobodys() -> None:
    with machines.boot(config(*ALL[:-1])) as booted:
        before = device_pages(booted)
        booted.machine.qmp.execute("device_add", driver="edu", bus="below", id="late")
        assert 'dev: edu, id "late"' in booted.machine.monitor("info qtree")
        assert device_pages(booted) == before
        assert not any(reachable(booted, pci.page(0, bus=bus)) for bus in (1, 2, 255))
        assert not reachable(booted, pci.page(5))


@pytest.mark.parametrize("smmu", [True, False], ids=["SMMU", "no SMMU"])
def test_what_firmware_left_running_is_made_silent(smmu: bool) -> None:
    """Every function masters the bus before the first instruction, also one behind a bridge."""
    port, slots = 5, range(1, 6)
    everywhere = [*((slot, 0) for slot in slots), (0, 1)]

    def program(machine: QemuMachine) -> None:
        stub = machines.Breakpoints(machine.gdb, machine.wait_until)
        stub.poke(pci.page(port) + BUS_NUMBERS, 0x01_01_00)
        for slot, bus in everywhere:
            stub.poke(pci.page(slot, bus=bus) + pci.COMMAND, pci.MEMORY | pci.MASTER)
            assert register(machine, slot, bus) == pci.MEMORY | pci.MASTER

    with machines.boot(config(*ALL, smmu=smmu), before=program) as booted:
        for slot, bus in everywhere:
            assert register(booted.machine, slot, bus) == 0


@pytest.mark.parametrize("smmu", [True, False], ids=["SMMU", "no SMMU"])
def test_virtual_functions_that_firmware_left_running_are_gone(smmu: bool) -> None:
    """They say the vendor id FFFFh, as if they were not there (SR-IOV, 9.3.4.1.1), and have a Command register."""
    pages: list[int] = []

    def program(machine: QemuMachine) -> None:
        outside = machines.Outside(machine)
        for slot in (1, 2):
            pages.extend(pci.Function(outside, pci.page(slot)).virtual_functions(2))
        for page in pages:
            outside.write(page + pci.COMMAND, (pci.MEMORY | pci.MASTER).to_bytes(4, "little"))
            assert outside.read(page + pci.COMMAND, 1)[0] == pci.MEMORY | pci.MASTER

    with machines.boot(config(*VIRTUAL, smmu=smmu), before=program) as booted:
        outside = machines.Outside(booted.machine)
        assert len(pages) == 4
        for page in pages:
            assert outside.read(page + pci.COMMAND, 4) == bytes.fromhex("ffffffff")
            assert not reachable(booted, page)
