"""Random numbers: the boot seed is the engine's alone, and the TRNG calls (Arm DEN 0098) answer."""

from __future__ import annotations

import os

import pytest

from boot import machines
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.machine.qemu import RAM_BASE, QemuConfig

pytestmark = pytest.mark.qemu

SEED_BYTES, KASLR_BYTES = 32, 8


class Seeds:
    """The random bytes that QEMU has put into a device tree."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def take(self, tree: bytearray) -> None:
        """Finds the properties by their lengths and names (Devicetree Specification 0.4, 5.4)."""
        strings = int.from_bytes(tree[12:16], "big")
        for name, length in ((b"rng-seed", SEED_BYTES), (b"kaslr-seed", KASLR_BYTES)):
            offset = bytes(tree).index(b"\0" + name + b"\0", strings) + 1 - strings
            head = (3).to_bytes(4, "big") + length.to_bytes(4, "big") + offset.to_bytes(4, "big")
            start = bytes(tree).index(head) + len(head)
            self.found.append(bytes(tree[start : start + length]))


def test_the_seed_is_gone_before_the_host_runs() -> None:
    seeds = Seeds()
    with machines.boot(QemuConfig(kernel=machines.image()), change=seeds.take) as booted:
        rng, kaslr = seeds.found
        assert len(set(rng)) > 8, "QEMU made a seed"
        with booted.machine.paused():
            ram = RamSnapshot(booted.machine.ram, RAM_BASE, booted.machine.config.memory)
            for part in (rng, rng[:16], rng[16:], kaslr):
                assert ram.find(part) == []
        base, size = booted.boot_info.device_tree
        tree = booted.read(base, 4096) + os.pread(booted.machine.ram, size - 4096, base + 4096 - RAM_BASE)
        assert b"rng-seed" in tree, "the property is there, its value is not"
        assert "random numbers: boot seed" in booted.log()
        text = booted.log().encode()
        assert rng.hex().encode() not in text
