"""What firmware, or whatever ran before, has left in the SMMU is gone when the host begins: tables, caches, queues."""

from __future__ import annotations

import os
import struct

import pytest

from boot import machines
from boot.devices import edu, pci
from boot.devices.bus import load, store
from bulkhead.image.memory_map import BLOCK, PAGE, device
from bulkhead.image.variant import Edit, build_variant
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

SMMU, EDU = device("SMMU").base, 1
# IHI 0070, 6.3: registers; 5.2: a valid stream table entry that lets its stream pass; 6.3.24: 256 entries.
CR0, CR0ACK, CR1, STRTAB_BASE, STRTAB_CFG = 0x20, 0x24, 0x28, 0x80, 0x88
ENABLE, CACHED, PASSES, STREAMS = 1, 0xD75, 1 | 0b100 << 1, 8
ENTRY = 64
TABLE = RAM_BASE + 64 * MIB
MESSAGE = 0x5A5A
FORGETS = Edit("engine/image/src/smmu.rs", "    smmu::forget_everything();\n", "")


def message_after_boot(config: QemuConfig) -> bool:
    """Firmware lets a function pass by a table of its own and uses it; the host lets it send a message to memory that
    is no window. Whether that arrives.
    """
    before = RAM_BASE + 96 * MIB

    def use(machine: QemuMachine) -> None:
        outside = machines.Outside(machine)
        os.pwrite(machine.ram, struct.pack("<8Q", PASSES, *(0,) * 7), TABLE - RAM_BASE + ENTRY * (EDU << 3))
        for register, value in ((CR1, CACHED), (STRTAB_BASE, TABLE), (STRTAB_CFG, STREAMS), (CR0, ENABLE)):
            store(outside, SMMU + register, value)
        assert load(outside, SMMU + CR0ACK) == ENABLE
        edu.Edu(pci.function(outside, EDU)).message(before, MESSAGE)
        assert struct.unpack("<I", os.pread(machine.ram, 4, before - RAM_BASE)) == (MESSAGE,)

    with machines.boot(config, before=use) as booted:
        target = booted.boot_info.split_block[0] + 16 * BLOCK
        booted.write(target, bytes(PAGE))
        function = edu.Edu(pci.function(booted, EDU))
        function.message(target, MESSAGE)
        arrived = booted.raw(target, 4) != bytes(4)
        booted.ok("dma_allow", target)
        function.message(target, MESSAGE)
        assert booted.raw(target, 4) == struct.pack("<I", MESSAGE)
        return arrived


def test_what_the_smmu_was_told_before_is_forgotten() -> None:
    config = QemuConfig(kernel=machines.image(), cpus=1, memory=512 * MIB, devices=(edu.OPTION,))
    assert not message_after_boot(config)


@pytest.mark.slow
def test_an_smmu_that_is_not_told_to_forget_remembers() -> None:
    image = build_variant([FORGETS]).image
    assert message_after_boot(QemuConfig(kernel=image, cpus=1, memory=512 * MIB, devices=(edu.OPTION,)))
