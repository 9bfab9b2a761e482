"""Machines that the engine cannot use: it says on UART0 what is missing, and nothing runs at EL1.

The device tree is changed in the machine's memory before the first instruction.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import fdt
import pytest

from boot import machines
from boot.machines import Prepare, Spoil
from boot.trees import RAM, STOP, Rebooting, rebooting, reg, rewrite
from bulkhead.errors import MachineTimeout
from bulkhead.image.memory_map import device
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu


def replace(old: bytes, new: bytes, count: int = -1) -> Spoil:
    """A change of the tree that keeps its length."""
    assert len(old) == len(new)

    def spoil(tree: bytearray) -> None:
        changed = bytes(tree).replace(old, new, count)
        assert changed != tree
        tree[:] = changed

    return spoil


def header(word: int, value: int) -> Spoil:
    """Another value of a word of the header (Devicetree Specification 0.4, 5.2)."""

    def spoil(tree: bytearray) -> None:
        tree[4 * word : 4 * word + 4] = struct.pack(">I", value)

    return spoil


def many_reservations(tree: bytearray) -> None:
    """More reserved ranges than the engine keeps, in the unused end of the tree."""
    entries = b"".join(struct.pack(">QQ", RAM_BASE + 16 * MIB + index * MIB, 4096) for index in range(9))
    place = len(tree) - 1024
    assert not any(tree[place:])
    tree[place : place + len(entries)] = entries
    tree[16:20] = struct.pack(">I", place)


def nested(tree: bytearray) -> None:
    """A node in a node in a node, a thousand times."""
    structure, size = struct.unpack(">I", tree[8:12])[0], 8 * 1000
    tree[structure : structure + size] = struct.pack(">II", 1, 0) * 1000


def endless_names(tree: bytearray) -> None:
    """A megabyte of properties whose names have no end."""
    structure = struct.unpack(">I", tree[8:12])[0]
    tree[structure:] = (struct.pack(">II", 1, 0) + struct.pack(">III", 3, 0, 0) * MIB)[
        : len(tree) - structure
    ]
    for word, value in ((3, structure + 8), (8, len(tree) - structure - 8), (9, len(tree) - structure)):
        header(word, value)(tree)


def remove(path: str) -> Spoil:
    """Without a node."""
    parent, _, name = path.rpartition("/")
    return rewrite(lambda tree: tree.remove_node(name, parent))


def put(path: str, name: str, *words: int) -> Spoil:
    """With other cells in a property."""
    return rewrite(lambda tree: tree.set_property(name, list(words), path))


def put_text(path: str, name: str, text: str) -> Spoil:
    """With another text in a property."""
    return rewrite(lambda tree: tree.set_property(name, text, path))


def on_a_bus(base: int) -> Spoil:
    """With one more device, on a bus that translates nothing."""

    def edit(tree: fdt.FDT) -> None:
        for name, value in (("compatible", "simple-bus"), ("#address-cells", 2), ("#size-cells", 2)):
            tree.set_property(name, value, "/soc")
        tree.add_item(fdt.Property("ranges"), "/soc")
        tree.set_property("reg", [0, base, 0, 4096], f"/soc/dma@{base:x}")

    return rewrite(edit)


def twins(tree: bytearray) -> None:
    """Two CPUs with one MPIDR."""
    put("/cpus/cpu@1", "reg", 0)(tree)


def more_memory(*regions: tuple[int, int]) -> Spoil:
    """RAM as listed, instead of what is there."""
    return reg(MEMORY, *regions)


MEMORY = "/memory@40000000"
UART0, UART1, RTC = "/pl011@9000000", "/pl011@9040000", "/pl031@9010000"
GIC, SMMU, PCIE = "/intc@8000000", "/smmuv3@9050000", "/pcie@10000000"
WHOLE = (RAM_BASE, RAM)

TREES: dict[str, tuple[Spoil, str]] = {
    # The blob.
    "no tree": (header(0, 0), "the device tree is missing"),
    "too long": (header(1, 3 * MIB), "the device tree is missing"),
    "shorter than its parts": (header(1, 64), "malformed: its header"),
    "structure beyond the end": (header(2, MIB), "malformed: its header"),
    "structure not aligned": (header(2, 57), "malformed: its header"),
    "strings beyond the end": (header(3, MIB), "malformed: its header"),
    "strings too long": (header(8, MIB), "malformed: its header"),
    "another version": (header(5, 16), "malformed: its header"),
    "a format of the future": (header(6, 18), "malformed: its header"),
    "structure cut": (header(9, 400), "malformed: its structure"),
    "strings cut": (header(8, 8), "malformed: its structure"),
    "reservations beyond the end": (header(4, MIB + 8), "malformed: its header"),
    "reservations without end": (header(4, MIB - 8), "malformed: its reservation block"),
    "nested a thousand times": (nested, "malformed: nested too deeply"),
    "names without end": (endless_names, "malformed: its structure"),
    "too many reservations": (many_reservations, "more than 8 reserved ranges"),
    # Memory.
    "no RAM": (replace(b"memory\0", b"mammon\0"), "RAM is missing"),
    "no memory node": (remove(MEMORY), "RAM is missing"),
    "RAM wraps": (more_memory((RAM_BASE, (1 << 64) - 1)), "RAM ranges are malformed"),
    "half a range": (put(MEMORY, "reg", 0, RAM_BASE, 0), "RAM ranges are malformed"),
    "cells of nobody's": (put("/", "#address-cells", 7), "RAM ranges are malformed"),
    "RAM too far": (more_memory(WHOLE, (1 << 46, RAM)), "RAM is out of reach"),
    "RAM too wide": (more_memory(WHOLE, (1 << 45, RAM)), "RAM is out of reach"),
    "RAM without end": (more_memory((RAM_BASE, 1 << 62)), "RAM and a device overlap"),
    "empty RAM": (more_memory((RAM_BASE, 0)), "a RAM range is empty (0x40000000)"),
    "RAM twice": (more_memory(WHOLE, (RAM_BASE + RAM - 4096, RAM)), "two RAM ranges overlap (0x4ffff000)"),
    "RAM over UART0": (more_memory(WHOLE, (0x0900_0000, 4096)), "RAM and a device overlap (0x9000000)"),
    "RAM over configuration space": (more_memory((RAM_BASE, 300 << 30)), "RAM and a device overlap"),
    "nine RAM ranges": (
        more_memory(*((RAM_BASE + index * 16 * MIB, 8 * MIB) for index in range(9))),
        "more than 8 RAM ranges",
    ),
    "RAM that is not there": (
        more_memory((RAM_BASE, 2 * RAM)),
        "nothing answers where the device tree says so",
    ),
    "RAM elsewhere than the engine": (
        more_memory((RAM_BASE + 16 * MIB, RAM - 16 * MIB)),
        "the engine does not lie in RAM",
    ),
    "RAM of a page": (more_memory((RAM_BASE, 4096)), "the device tree does not lie in RAM"),
    "RAM to the end of all addresses": (
        more_memory((RAM_BASE, -RAM_BASE % 2**64)),
        "RAM ranges are malformed",
    ),
    "RAM without the tree": (more_memory((RAM_BASE, RAM // 4)), "the device tree does not lie in RAM"),
    # CPUs and firmware.
    "no CPUs": (replace(b"cpu\0", b"gpu\0"), "CPUs are missing: /cpus is empty"),
    "no /cpus": (remove("/cpus"), "CPUs are missing: no node /cpus"),
    "two CPUs with one MPIDR": (twins, "two CPUs of the device tree have the same MPIDR (0x0)"),
    "an MPIDR that is none": (
        put("/cpus/cpu@1", "reg", 1 << 31),
        "a CPU of the device tree has no sound reg",
    ),
    "a CPU that is not there": (put("/cpus/cpu@1", "reg", 7), "a GIC redistributor belongs to no CPU"),
    "no PSCI": (remove("/psci"), "PSCI firmware is missing"),
    "PSCI by HVC": (replace(b"smc\0", b"hvc\0"), "PSCI firmware is missing"),
    "PSCI disabled": (
        rewrite(lambda tree: tree.set_property("status", "disabled", "/psci")),
        "PSCI firmware is missing",
    ),
    "PSCI by two ways": (
        rewrite(lambda tree: tree.set_property("method", ["hvc", "smc"], "/psci")),
        "PSCI firmware is missing",
    ),
    "PSCI of old": (replace(b"arm,psci-1.0\0", b"arm,psci-0.1\0"), "PSCI firmware is missing"),
    # Devices.
    "no GIC": (replace(b"arm,gic-v3\0", b"arm,gic-v9\0"), "the GIC is missing"),
    "GIC disabled": (
        rewrite(lambda tree: tree.set_property("status", "disabled", GIC)),
        "the GIC is missing",
    ),
    "GIC elsewhere": (reg(GIC, (0x0800_0000, 0x1_0000), (0x080C_0000, 0xF4_0000)), "the GIC is not where"),
    "one redistributor": (reg(GIC, (0x0800_0000, 0x1_0000), (0x080A_0000, 0x2_0000)), "fewer redistributors"),
    "GIC without maintenance interrupt": (
        put(GIC, "interrupts", 1, 8, 4),
        "maintenance interrupt is not PPI 25",
    ),
    "ITS elsewhere": (reg(GIC + "/its@8080000", (0x0806_0000, 0x2_0000)), "the GIC's ITS is not where"),
    "no timer": (remove("/timer"), "the timer is missing"),
    "timer without interrupts": (
        replace(b"interrupts\0", b"interropts\0"),
        "maintenance interrupt is not PPI 25",
    ),
    "timer with three interrupts less": (put("/timer", "interrupts", 1, 13, 4), "not PPI 30 and PPI 27"),
    "timer with another PPI": (
        put("/timer", "interrupts", 1, 13, 4, 1, 14, 4, 1, 12, 4, 1, 10, 4),
        "not PPI 30 and PPI 27",
    ),
    "timer with an SPI": (
        put("/timer", "interrupts", 1, 13, 4, 1, 14, 4, 0, 11, 4, 1, 10, 4),
        "not PPI 30 and PPI 27",
    ),
    "no UART": (replace(b"arm,pl011\0", b"arm,pl999\0"), "UART0 is missing"),
    "no management UART": (remove(UART1), "UART1, the management channel, is missing"),
    "SMMU elsewhere": (reg(SMMU, (0x0907_0000, 0x2_0000)), "the SMMU is not where"),
    "PCIe elsewhere": (reg(PCIE, (0x3F00_0000, 0x100_0000)), "PCIe configuration space is not where"),
    "virtio elsewhere": (
        reg("/virtio_mmio@a000000", (0x0A00_4000, 0x200)),
        "a virtio transport is not where",
    ),
    "virtio between two places": (
        rewrite(lambda tree: tree.set_property("reg", [0, 0x0A00_3F00, 0, 0x80], "/virtio_mmio@a003e00")),
        "a virtio transport is not where",
    ),
    "virtio without a place": (
        rewrite(lambda tree: tree.remove_property("reg", "/virtio_mmio@a000000")),
        "a virtio transport is not where",
    ),
    "two GICs": (put_text(RTC, "compatible", "arm,gic-v3"), "there are two GICs"),
    "two timers": (put_text(RTC, "compatible", "arm,armv8-timer"), "there are two timers"),
    "two SMMUs": (put_text(RTC, "compatible", "arm,smmu-v3"), "there are two SMMUs"),
    "two host bridges": (
        put_text(RTC, "compatible", "pci-host-ecam-generic"),
        "there are two PCIe host bridges",
    ),
    "two devices in one place": (reg(RTC, (0x0900_0000, 4096)), "two devices of the device tree overlap"),
    "a device in RAM": (reg(RTC, (RAM_BASE + 64 * MIB, 4096)), "RAM and a device overlap (0x44000000)"),
    "a device in PCIe's window": (reg(RTC, (0x2000_0000, 4096)), "two devices of the device tree overlap"),
    "a device on a bus in RAM": (on_a_bus(RAM_BASE + 64 * MIB), "RAM and a device overlap (0x44000000)"),
    "a device on a bus over UART1": (on_a_bus(0x0904_0000), "two devices of the device tree overlap"),
    "ITS over a redistributor": (
        reg(GIC + "/its@8080000", (0x0808_0000, 0x4_0000)),
        "two devices of the device tree overlap",
    ),
    "distributor without registers": (
        reg(GIC, (0x0800_0000, 0), (0x080A_0000, 0xF6_0000)),
        "the GIC is not where",
    ),
    "ITS without registers": (reg(GIC + "/its@8080000", (0x0808_0000, 0)), "the GIC's ITS is not where"),
    "UART0 without registers": (reg(UART0, (0x0900_0000, 0)), "UART0 is missing"),
    "half of UART1": (reg(UART1, (0x0904_0000, 2048)), "UART1, the management channel, is missing"),
    "half a page of SMMU": (reg(SMMU, (0x0905_0000, 2048)), "the SMMU is not where"),
    "PCIe with one bus": (reg(PCIE, (0x40_1000_0000, 1 << 20)), "PCIe configuration space is not where"),
    "PCIe without windows": (
        rewrite(lambda tree: tree.remove_property("ranges", PCIE)),
        "memory window is not",
    ),
    "PCIe's window elsewhere": (
        put(PCIE, "ranges", 2 << 24, 0, 0x1000_0000, 0, 0x0C00_0000, 0, 0x2EFF_0000),
        "PCIe's memory window is not where",
    ),
    "PCIe's window too small": (
        put(PCIE, "ranges", 2 << 24, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x100_0000),
        "PCIe's memory window is not where",
    ),
    "PCIe's window for I/O": (
        put(PCIE, "ranges", 1 << 24, 0, 0, 0, 0x1000_0000, 0, 0x2EFF_0000),
        "PCIe's memory window is not where",
    ),
    "a device with half an address": (
        put(RTC, "reg", 0, 0x0901_0000, 0),
        "a device of the device tree has a malformed",
    ),
}


def refusal(config: QemuConfig, spoil: Spoil | None = None, before: Prepare | None = None) -> str:
    """What the engine says when it stops; the machine is watched for some time after it."""
    with QemuMachine(dataclasses.replace(config, ignore=(STOP,)), say=print) as machine:
        if spoil is not None:
            machines.change_tree(machine, spoil)
        if before is not None:
            before(machine)
        if config.halted:
            machine.resume()
        machine.wait_until(lambda: "\n" in machine.console.text.partition(STOP)[2], 20, STOP)
        with pytest.raises(MachineTimeout):
            machine.wait_until(lambda: False, 0.3, "nothing")
        return machine.console.text.partition(STOP)[2].splitlines()[0]


@pytest.fixture(scope="module")
def machine() -> Iterator[Rebooting]:
    """One machine that boots with every tree."""
    config = QemuConfig(kernel=machines.image(), memory=RAM, halted=True, ignore=(STOP,))
    with rebooting(config) as machine:
        yield machine


def test_the_tree_as_it_is(machine: Rebooting) -> None:
    assert machine.boot(lambda tree: None) == ""
    assert machine.boot(rewrite(lambda tree: None)) == ""


@pytest.mark.parametrize(("spoil", "said"), TREES.values(), ids=TREES.keys())
def test_a_device_tree_that_is_wrong(machine: Rebooting, spoil: Spoil, said: str) -> None:
    assert said in machine.boot(spoil)
    # What was left of that boot does no harm to the next.
    assert machine.boot(lambda tree: None) == ""


def test_nothing_runs_at_el1_after_a_refusal() -> None:
    config = QemuConfig(kernel=machines.image(), memory=RAM, halted=True)
    assert "the GIC is missing" in refusal(config, TREES["no GIC"][0])


@pytest.mark.parametrize("cpu", [0, 1])
def test_lpis_that_firmware_has_enabled(cpu: int) -> None:
    def enable(machine: QemuMachine) -> None:
        frame = device("GICR_RD")
        stub = machines.Breakpoints(machine.gdb, machine.wait_until)
        stub.poke(frame.base + cpu * frame.stride, 1)

    config = QemuConfig(kernel=machines.image(), cpus=2, halted=True)
    assert "firmware has enabled LPIs" in refusal(config, before=enable)


MACHINES = {
    "gic-version=4": "the GIC has virtual LPIs (GICv4)",
    "gic-version=2": "the GIC is missing",
    "highmem=off": "PCIe configuration space is not where",
    "secure=on": "UART1, the management channel, is missing",
    "virtualization=off": "not entered at EL2",
}


@pytest.mark.parametrize(("options", "said"), MACHINES.items(), ids=MACHINES.keys())
def test_another_machine(options: str, said: str) -> None:
    assert said in refusal(QemuConfig(kernel=machines.image(), options=options))


def test_too_little_ram() -> None:
    assert "too little RAM" in refusal(QemuConfig(kernel=machines.image(), memory=8 * MIB))


def test_too_many_cpus() -> None:
    assert "more than 8 CPUs" in refusal(QemuConfig(kernel=machines.image(), cpus=9))


@pytest.mark.parametrize("model", ["cortex-a57", "cortex-a72"])
def test_a_cpu_without_what_the_engine_needs(model: str) -> None:
    assert "no RAS extension" in refusal(QemuConfig(kernel=machines.image(), cpu_model=model))


def test_a_host_program_that_is_none(tmp_path: Path) -> None:
    data = machines.image().read_bytes()
    program = data.index(b"ARM\x64", 60) - 56
    spoilt = tmp_path / "spoilt.img"
    spoilt.write_bytes(data[: program + 56] + b"ELF!" + data[program + 60 :])
    assert "no sound arm64 Image header" in refusal(QemuConfig(kernel=spoilt))


def test_an_engine_without_a_host_program(tmp_path: Path) -> None:
    data = bytearray(machines.image().read_bytes())
    program = data.index(b"ARM\x64", 60) - 56
    data[16:24] = program.to_bytes(8, "little")
    alone = tmp_path / "alone.img"
    alone.write_bytes(data[:program])
    assert "the host program is missing" in refusal(QemuConfig(kernel=alone))
