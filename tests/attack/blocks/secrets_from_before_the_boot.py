"""The host reads in RAM what was there before the boot."""

import os

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.machine.link import Link, wait_ready
from bulkhead.machine.qemu import RAM_BASE, QemuConfig, QemuMachine

MEMORY = 256 << 20
SECRET_BEFORE = b"from before the boot"
BLOCKS = range(RAM_BASE + (192 << 20), RAM_BASE + (240 << 20), BLOCK)
"""RAM that no boot loader uses: the device tree lies in the middle of it, the image at its start."""


@attack(
    by="host",
    against="P6",
    refused="a block that the host has not touched is mapped nowhere, and zeroed at the first touch",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.zero_block(block);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    config = QemuConfig(kernel=arena.backend.images.image, memory=MEMORY, halted=True)
    with QemuMachine(config) as machine:
        for block in BLOCKS:
            os.pwrite(machine.ram, SECRET_BEFORE, block - RAM_BASE)
        machine.resume()
        link = Link(machine.link, machine.wait_until)
        wait_ready(link)
        for block in BLOCKS:
            found = bytes(link.call("read", {"address": block, "length": len(SECRET_BEFORE)})["data"])
            assert found != SECRET_BEFORE, f"the host reads at {block:#x} what was there before the boot"
