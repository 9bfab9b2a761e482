"""Device trees changed in the memory of a machine before it boots; and one machine that boots with many of them.

Trust label: TOOL. A machine that is reset has its tree back as QEMU made it, because QEMU loads its images again.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import fdt

from boot import machines
from boot.machines import Spoil
from bulkhead.machine.qemu import MIB, RAM_BASE, QemuConfig, QemuMachine

RAM = 256 * MIB
"""Of the machine that boots with many trees."""
STOP = "BULKHEAD STOP"
UP = "host program at"
SECONDS = 20.0
HEADER_WORDS = 10
INTERESTING = (0, 1, 2, 3, 4, 9, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF)
EVENTS_OF_A_RESET = "RESET"
NODES = (
    "/memory@40000000", "/intc@8000000", "/smmuv3@9050000", "/pcie@10000000", "/timer", "/cpus", "/cpus/cpu@0",
    "/cpus/cpu@1", "/psci", "/chosen", "/pl011@9000000", "/pl011@9040000", "/pl031@9010000",
)  # fmt: skip
PROPERTIES = (
    "reg", "#address-cells", "#size-cells", "interrupts", "compatible", "status", "device_type", "method",
    "iommu-map", "phandle", "redistributor-stride", "#interrupt-cells",
)  # fmt: skip


class Rebooting:
    """A halted machine that boots again and again; `tree` is the changed tree of the last boot."""

    def __init__(self, machine: QemuMachine) -> None:
        self.machine = machine
        self._booted = False
        self.tree = b""
        machine.qmp.execute("set-action", reboot="reset")

    def boot(self, change: Spoil) -> str:
        """Boots with a changed tree until the host has been entered (answers "") or the engine says why not."""
        machine = self.machine
        if self._booted:
            machine.qmp.execute("stop")
            machine.qmp.events.clear()
            machine.qmp.execute("system_reset")
            machine.wait_until(self._reset_is_over, SECONDS, "the reset")
        self._booted = True
        machine.console.text = ""
        machines.change_tree(machine, self._kept(change))
        machine.resume()
        machine.wait_until(self._decided, SECONDS, "the engine's decision")
        return machine.console.text.partition(STOP)[2].partition("\r")[0].strip()

    def _kept(self, change: Spoil) -> Spoil:
        def changed(tree: bytearray) -> None:
            change(tree)
            self.tree = bytes(tree)

        return changed

    def _reset_is_over(self) -> bool:
        return any(event["event"] == EVENTS_OF_A_RESET for event in self.machine.qmp.events)

    def _decided(self) -> bool:
        text = self.machine.console.text
        return "\n" in text.partition(STOP)[2] or "\n" in text.partition(UP)[2]


@contextmanager
def rebooting(config: QemuConfig) -> Iterator[Rebooting]:
    """One machine for many boots; a panic of the engine ends the block."""
    with QemuMachine(config, say=print) as machine:
        yield Rebooting(machine)


def rewrite(edit: Callable[[fdt.FDT], None]) -> Spoil:
    """A change of the tree as a tree: nodes and properties."""

    def spoil(tree: bytearray) -> None:
        parsed = fdt.parse_dtb(bytes(tree))
        edit(parsed)
        changed = parsed.to_dtb(version=17)
        tree[:] = changed.ljust(len(tree), b"\0")

    return spoil


def reg(path: str, *regions: tuple[int, int]) -> Spoil:
    """A change of the tree: the node's `reg`, two cells each for address and size."""
    words = [word for region in regions for value in region for word in (value >> 32, value & 0xFFFF_FFFF)]
    return rewrite(lambda tree: tree.set_property("reg", words, path))


def cut(span: range) -> Spoil:
    """A change of the tree: without the tokens in there. NOP tokens (5.4.1) take their place."""

    def spoil(tree: bytearray) -> None:
        tree[span.start : span.stop] = struct.pack(">I", 4) * (len(span) // 4)

    return spoil


def damage(seed: int) -> Spoil:
    """A change of the tree's bytes, drawn by `seed`; the engine may come up with it all the same."""

    def spoil(tree: bytearray) -> None:
        draw = random.Random(seed)
        words = struct.unpack(f">{HEADER_WORDS}I", tree[: 4 * HEADER_WORDS])
        _, _, structure, strings, _, _, _, _, strings_size, structure_size = words
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            how = draw.randrange(6)
            place = structure + 4 * draw.randrange(structure_size // 4)
            if how == 0:
                tree[draw.randrange(strings + strings_size)] ^= 1 << draw.randrange(8)
            elif how == 1:
                tree[place : place + 4] = struct.pack(">I", draw.choice(INTERESTING))
            elif how == 2:
                tree[place : place + 4] = struct.pack(">I", draw.getrandbits(32))
            elif how == 3:
                header = 4 * draw.randrange(1, HEADER_WORDS)
                tree[header : header + 4] = struct.pack(
                    ">I", draw.choice((*INTERESTING, draw.randrange(MIB)))
                )
            elif how == 4:
                length = 4 * draw.randrange(1, 64)
                source = structure + 4 * draw.randrange(structure_size // 4)
                tree[place : place + length] = tree[source : source + length]
            else:
                length = 4 * draw.randrange(1, 64)
                end = structure + structure_size
                tree[place:end] = tree[place + length : end].ljust(end - place, b"\0")

    return spoil


def lies(seed: int) -> Spoil:
    """A sound tree that says other things than are so, drawn by `seed`: RAM, addresses, interrupts, missing nodes."""
    draw = random.Random(seed)
    places = (*INTERESTING, 16, 27, 4096, 2 * MIB, 0x0800_0000, 0x0905_0000, 0x1000_0000, RAM_BASE)

    def word() -> int:
        return draw.choice((*places, draw.getrandbits(32)))

    def region() -> list[int]:
        base = RAM_BASE + draw.choice((0, 0, draw.randrange(256) * MIB, draw.randrange(256 * MIB), word()))
        return [
            base >> 32,
            base & 0xFFFF_FFFF,
            0,
            draw.choice((256 * MIB, draw.randrange(256) * MIB, word())),
        ]

    def edit(tree: fdt.FDT) -> None:
        for _ in range(draw.choice((1, 1, 2, 3))):
            node = draw.choice([path for path in NODES if tree.exist_node(path)])
            how = draw.randrange(8)
            if how < 2 and tree.exist_node(NODES[0]):
                regions = [word for _ in range(draw.choice((1, 1, 2, 3, 8))) for word in region()]
                tree.set_property("reg", regions, NODES[0])
            elif how == 2:
                tree.remove_node(node.rpartition("/")[2], node.rpartition("/")[0] or "/")
            else:
                words = [word() for _ in range(draw.choice((1, 1, 2, 3, 4, 8, 12)))]
                tree.set_property(draw.choice(PROPERTIES), words, node)

    return rewrite(edit)


def maps(seed: int) -> Spoil:
    """A sound tree with another map, drawn by `seed`: RAM in pieces, with holes and at odd addresses; firmware's RAM;
    devices over each other, over RAM, in part, nowhere.
    """
    draw = random.Random(seed)

    def size() -> int:
        return draw.choice((1, 4096, MIB, 2 * MIB, draw.randrange(64 * MIB), draw.randrange(1 << 12)))

    def place() -> int:
        return RAM_BASE + draw.choice((draw.randrange(RAM), draw.randrange(RAM // MIB) * MIB))

    def ram(tree: fdt.FDT) -> None:
        """Pieces of what there is, the one with the engine and one with the tree among them."""
        cuts = sorted({RAM_BASE, RAM_BASE + RAM, *(place() for _ in range(draw.randrange(1, 5)))})
        tree.remove_node(NODES[0].strip("/"), "/")
        for index, (start, stop) in enumerate(pairwise(cuts)):
            start += draw.choice((0, 0, 0, 1, 4096, MIB, -MIB))
            words = [0, start, 0, max(0, stop - start)]
            tree.set_property("device_type", "memory", f"/memory@{index}")
            tree.set_property("reg", words, f"/memory@{index}")

    def kept(tree: fdt.FDT) -> None:
        cells = draw.choice((1, 2, 2, 2, 0, 3, 0xFFFF_FFFF))
        for name in ("#address-cells", "#size-cells"):
            tree.set_property(name, cells, "/reserved-memory")
        for index in range(draw.randrange(1, 10)):
            words = (
                [place(), size()] if cells == 1 else [draw.choice((0, 0, 0, 0, 1 << 31)), place(), 0, size()]
            )
            tree.set_property("reg", words, f"/reserved-memory/firmware@{index}")

    def devices(tree: fdt.FDT) -> None:
        node = draw.choice(NODES[1:4] + NODES[-3:])
        if tree.exist_node(node):
            base = draw.choice((place(), 0x0900_0000, 0x0904_0800, 0x080B_0000, 0x2000_0000, 1 << 33))
            words = [base >> 32, base & 0xFFFF_FFFF, 0, draw.choice((0, 1, 4096, 0x1_0000, 0x1000_0000))]
            tree.set_property("reg", words, draw.choice((node, "/stranger", "/pl031@9010000")))

    def edit(tree: fdt.FDT) -> None:
        for change in draw.sample((ram, kept, devices), draw.choice((1, 1, 2, 3))):
            change(tree)

    return rewrite(edit)


def noise(seed: int) -> Spoil:
    """Tokens at random behind a sound header, drawn by `seed`; some streams are cut, some nested, some sound."""

    def spoil(tree: bytearray) -> None:
        draw = random.Random(seed)
        words = struct.unpack(f">{HEADER_WORDS}I", tree[: 4 * HEADER_WORDS])
        structure, strings_size = words[2], words[8]
        stream, depth = struct.pack(">II", 1, 0), 1
        for _ in range(draw.choice((1, 10, 100, 2000))):
            kind = draw.choice((1, 1, 2, 3, 3, 3, 4, draw.choice(INTERESTING)))
            stream += struct.pack(">I", kind)
            if kind == 1:
                stream += draw.choice(
                    (b"cpus\0\0\0\0", b"memory@0\0\0\0\0", draw.randbytes(4), b"psci\0\0\0\0")
                )
            elif kind == 3:
                length = draw.choice((0, 1, 4, 8, 16, draw.randrange(64)))
                stream += struct.pack(">II", length, draw.randrange(strings_size)) + draw.randbytes(
                    length + -length % 4
                )
            depth += {1: 1, 2: -1}.get(kind, 0)
            if depth == 0 and draw.randrange(2):
                break
        stream += struct.pack(">I", 2) * max(0, depth) + struct.pack(">I", 9)
        stream = stream[: len(tree) - structure]
        tree[structure : structure + len(stream)] = stream

    return spoil
