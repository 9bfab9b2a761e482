"""What a device tree says about a machine, read anew in Python, and whether the engine has divided the machine so.

Nothing here is shared with the engine's reader: the oracle of trees at random, sound or damaged ones.
Trust label: TOOL. Source: Devicetree Specification 0.4, chapter 5 (format), 2.3 and 3 (properties, nodes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from bulkhead.image.memory_map import BLOCK, GIB, PAGE, VIRT, Use
from bulkhead.inspect import checks
from bulkhead.inspect.engine import FRAMES, EngineView
from bulkhead.inspect.records import Kind

BEGIN, END_NODE, PROPERTY, END = 1, 2, 3, 9
OF_THE_HOST = (Kind.HOST, Kind.SPLIT, Kind.UNCLEARED)


@dataclass
class Node:
    """A node: the first property of each name counts."""

    name: bytes
    properties: dict[bytes, bytes] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def child(self, name: bytes) -> Node | None:
        """The first of that name, whatever its unit address."""
        return next((node for node in self.children if node.name.split(b"@")[0] == name), None)

    def says(self, name: bytes, text: bytes) -> bool:
        """Whether a list of strings has `text` in it."""
        return text in self.properties.get(name, b"").split(b"\0")

    @property
    def enabled(self) -> bool:
        """Whether it may be used."""
        return (
            b"status" not in self.properties or self.says(b"status", b"okay") or self.says(b"status", b"ok")
        )

    def regions(self, parent: Node) -> list[range]:
        """Its `reg`."""
        sizes = [parent.properties.get(name, b"") for name in (b"#address-cells", b"#size-cells")]
        first, second = (
            4 * (int.from_bytes(size, "big") if len(size) in (4, 8) else default)
            for size, default in zip(sizes, (2, 1), strict=True)
        )
        value = self.properties.get(b"reg", b"")
        entries = [value[at : at + first + second] for at in range(0, len(value), first + second)]
        pairs = [(int.from_bytes(one[:first], "big"), int.from_bytes(one[first:], "big")) for one in entries]
        return [range(base, base + size) for base, size in pairs]


@dataclass(frozen=True)
class Token:
    """Of the structure block: where it lies there, and what it is."""

    span: range
    kind: int
    name: bytes
    value: bytes


def tokens(structure: bytes, strings: bytes) -> Iterator[Token]:
    """All up to END."""
    at = 0
    while True:
        start = at
        (kind,) = struct.unpack_from(">I", structure, at)
        name = value = b""
        at += 4
        if kind == BEGIN:
            name = structure[at : structure.index(0, at)]
            at += len(name) + 1
        elif kind == PROPERTY:
            length, offset = struct.unpack_from(">II", structure, at)
            name = strings[offset : strings.index(0, offset)]
            value = structure[at + 8 : at + 8 + length]
            at += 8 + length
        at += -at % 4
        yield Token(range(start, at), kind, name, value)
        if kind == END:
            return


def structure_of(blob: bytes) -> Iterator[Token]:
    """The tokens of a sound tree."""
    _, _, structure, strings, _, _, _, _, strings_size, size = struct.unpack(">10I", blob[:40])
    return tokens(blob[structure : structure + size], blob[strings : strings + strings_size])


def spans(blob: bytes) -> Iterator[tuple[str, range]]:
    """Where each node and property of a sound tree lies in it: by path, that of a property as `/node#name`."""
    (first,) = struct.unpack(">I", blob[8:12])
    path: list[tuple[str, int]] = []
    for token in structure_of(blob):
        start, stop = first + token.span.start, first + token.span.stop
        here = "/".join(name for name, _ in path) or "/"
        if token.kind == BEGIN:
            path.append((token.name.decode(), start))
        elif token.kind == PROPERTY:
            yield f"{here}#{token.name.decode()}", range(start, stop)
        elif token.kind == END_NODE:
            yield here, range(path.pop()[1], stop)


def parse(blob: bytes) -> tuple[Node, list[range]]:
    """The root node and the reservation block of a sound tree."""
    path = [Node(b"")]
    for token in structure_of(blob):
        if token.kind == BEGIN:
            node = Node(token.name)
            path[-1].children.append(node)
            path.append(node)
        elif token.kind == PROPERTY:
            path[-1].properties.setdefault(token.name, token.value)
        elif token.kind == END_NODE:
            path.pop()
    reserved = []
    (place,) = struct.unpack(">I", blob[16:20])
    while (entry := struct.unpack_from(">QQ", blob, place)) != (0, 0):
        reserved.append(range(entry[0], entry[0] + entry[1]))
        place += 16
    return path[0].children[0], reserved


def overlap(one: range, other: range) -> bool:
    """Whether two ranges share a byte."""
    return bool(one) and bool(other) and one.start < other.stop and other.start < one.stop


def pages(one: range) -> range:
    """The whole pages that a range touches."""
    return range(one.start & -PAGE, one.stop + PAGE - 1 & -PAGE)


@dataclass(frozen=True)
class Division:
    """What follows from a tree that lies at `place`."""

    ram: list[range]
    reserved: list[range]
    cpus: int

    @classmethod
    def of(cls, blob: bytes, place: int) -> Division:
        """From the bytes; the tree itself is the host's, if nothing but it is reserved."""
        root, reserved = parse(blob)
        memory = [node for node in root.children if node.enabled and node.says(b"device_type", b"memory")]
        kept = root.child(b"reserved-memory")
        for node in kept.children if kept else ():
            reserved += node.regions(kept) if kept else []
        (size,) = struct.unpack(">I", blob[4:8])
        tree = pages(range(place, place + size))
        cpus = root.child(b"cpus")
        return cls(
            ram=[one for node in memory for one in node.regions(root)],
            reserved=[
                one
                for one in reserved
                if one and not (pages(one).start in tree and pages(one).stop <= tree.stop)
            ],
            cpus=sum(node.enabled and node.says(b"device_type", b"cpu") for node in cpus.children)
            if cpus
            else 0,
        )

    def allows(self, block: range, image: range) -> bool:
        """Whether a block, or several, may be used: RAM, all of it, and nothing of firmware's or the image's."""
        inside = any(one.start <= block.start and block.stop <= one.stop for one in self.ram)
        return inside and not any(overlap(block, other) for other in (*self.reserved, image))

    def faults(self, view: EngineView) -> list[str]:
        """Where a stopped machine that has come up with this tree is not divided so; empty if all is well."""
        start = view.physical(view.symbols.address("__image_start"))
        image = range(
            start, start + view.symbols.address("__image_end") - view.symbols.address("__image_start")
        )
        base = view.config.ram_base
        blocks = [
            range(base + index * BLOCK, base + (index + 1) * BLOCK) for index in range(len(view.blocks))
        ]
        wrong = [
            f"{block.start:#x} is the host's"
            for block, record in zip(blocks, view.blocks, strict=True)
            if record.kind in OF_THE_HOST and not self.allows(block, image)
        ]
        taken = [
            block.start
            for block, record in zip(blocks, view.blocks, strict=True)
            if record.kind not in OF_THE_HOST and self.allows(block, image)
        ]
        # A block of frame records for each GiB, and one or two with all the rest.
        most = len(blocks) * BLOCK // GIB + 2
        if not taken or taken[-1] - taken[0] != (len(taken) - 1) * BLOCK or len(taken) > most:
            wrong.append(f"the engine keeps {[hex(block) for block in taken]}")
        records = view.physical(FRAMES)
        own = range(records, records + len(blocks) * BLOCK // GIB * BLOCK + BLOCK)
        if not self.allows(own, image):
            wrong.append(f"the engine's records are at {records:#x}")
        if view.config.cpus != self.cpus:
            wrong.append(f"{view.config.cpus} CPUs instead of {self.cpus}")
        return wrong + self._device_faults(view) + checks.isolation_faults(view)

    def _device_faults(self, view: EngineView) -> list[str]:
        allowed = {
            one.base + cpu * one.stride + page
            for one in VIRT
            if one.use in (Use.HOST, Use.BOTH)
            for cpu in range(self.cpus if one.stride else 1)
            for page in range(0, one.size, PAGE)
        }
        mapped = {
            one.output for one in view.host_mappings() if not any(one.output in ram for ram in self.ram)
        }
        return [f"the host reaches {page:#x}" for page in sorted(mapped ^ allowed)]
