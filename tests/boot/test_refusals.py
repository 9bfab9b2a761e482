"""Machines that the engine cannot use: it says on UART0 what is missing, and nothing runs at EL1.

The device tree is changed in the machine's memory before the first instruction.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest

from boot import machines
from boot.machines import Spoil
from bulkhead.errors import MachineTimeout
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

STOP = "BULKHEAD STOP"


def replace(old: bytes, new: bytes, count: int = -1) -> Spoil:
    """A change of the tree that keeps its length."""
    assert len(old) == len(new)

    def spoil(tree: bytearray) -> None:
        changed = bytes(tree).replace(old, new, count)
        assert changed != tree
        tree[:] = changed

    return spoil


def magic(tree: bytearray) -> None:
    """No device tree at all."""
    tree[:4] = b"\0\0\0\0"


def length(tree: bytearray) -> None:
    """A length that no boot loader may hand over."""
    tree[4:8] = struct.pack(">I", 3 * MIB)


def cut(tree: bytearray) -> None:
    """Structure and strings are where there is nothing."""
    tree[8:16] = struct.pack(">II", len(tree), len(tree))


def wrapping_ram(tree: bytearray) -> None:
    """A RAM range that ends beyond the last address."""
    ram = struct.pack(">QQ", RAM_BASE, 256 * MIB)
    start = bytes(tree).index(ram)
    tree[start : start + 16] = struct.pack(">QQ", RAM_BASE, (1 << 64) - 1)


def reservations(tree: bytearray) -> None:
    """A reservation block beyond the end of the tree."""
    tree[16:20] = struct.pack(">I", len(tree) + 8)


def many_reservations(tree: bytearray) -> None:
    """More reserved ranges than the engine keeps, in the unused end of the tree."""
    entries = b"".join(struct.pack(">QQ", RAM_BASE + 16 * MIB + index * MIB, 4096) for index in range(9))
    place = len(tree) - 1024
    assert not any(tree[place:])
    tree[place : place + len(entries)] = entries
    tree[16:20] = struct.pack(">I", place)


def far_ram(tree: bytearray) -> None:
    """RAM above what the engine's window shows."""
    ram = struct.pack(">QQ", RAM_BASE, 256 * MIB)
    start = bytes(tree).index(ram)
    tree[start : start + 16] = struct.pack(">QQ", 1 << 46, 256 * MIB)


TREES: dict[str, tuple[Spoil, str]] = {
    "no tree": (magic, "the device tree is missing"),
    "too long": (length, "the device tree is missing"),
    "cut": (cut, "PSCI firmware is missing"),
    "PSCI by HVC": (replace(b"smc\0", b"hvc\0"), "PSCI firmware is missing"),
    "no RAM": (replace(b"memory\0", b"mammon\0"), "RAM is missing"),
    "RAM wraps": (wrapping_ram, "RAM ranges are malformed"),
    "RAM too far": (far_ram, "RAM is out of reach"),
    "reservations cut": (reservations, "the device tree is malformed"),
    "too many reservations": (many_reservations, "more than 8 reserved ranges"),
    "no CPUs": (replace(b"cpu\0", b"gpu\0"), "CPUs are missing: /cpus is empty"),
    "no GIC": (replace(b"arm,gic-v3\0", b"arm,gic-v9\0"), "the GIC is missing"),
    "GIC elsewhere": (
        replace(struct.pack(">Q", 0x080A_0000), struct.pack(">Q", 0x080C_0000)),
        "the GIC is not where",
    ),
    "no UART": (replace(b"arm,pl011\0", b"arm,pl999\0"), "UART0 is missing"),
    "SMMU elsewhere": (
        replace(struct.pack(">Q", 0x0905_0000), struct.pack(">Q", 0x0906_0000)),
        "the SMMU is not where",
    ),
}


def refusal(config: QemuConfig, spoil: Spoil | None = None) -> str:
    """What the engine says when it stops; the machine is watched for some time after it."""
    with QemuMachine(dataclasses.replace(config, ignore=(STOP,)), say=print) as machine:
        if spoil is not None:
            machines.change_tree(machine, spoil)
            machine.resume()
        machine.wait_until(lambda: "\n" in machine.console.text.partition(STOP)[2], 20, STOP)
        with pytest.raises(MachineTimeout):
            machine.wait_until(lambda: False, 0.3, "nothing")
        return machine.console.text.partition(STOP)[2].splitlines()[0]


@pytest.mark.parametrize(("spoil", "said"), TREES.values(), ids=TREES.keys())
def test_a_device_tree_that_lacks_something(spoil: Spoil, said: str) -> None:
    config = QemuConfig(kernel=machines.image(), memory=256 * MIB, halted=True)
    assert said in refusal(config, spoil)


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
