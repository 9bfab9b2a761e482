"""Where everything in the bootable image lies, and the refusal of an image whose layout is wrong.

Trust label: CHECKED. Rules: the engine's parts do not overlap, stay in their window, are never writable and
executable at once; and each byte of the bootable file is what the ELF files say, the padding zero.
Source of the header's fields: Linux Documentation/arch/arm64/booting.rst, section 4.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bulkhead.errors import CheckFailed
from bulkhead.image.elf import Program, Section, Segment, read_program
from bulkhead.image.memory_map import HEADER_SIZE, PAGE, Window, window
from bulkhead.inspect.symbols import Symbol, Symbols

FAULTS_SHOWN = 10
SIZE_FIELD = slice(16, 24)  # image_size in the arm64 Image header


@dataclass(frozen=True)
class Layout:
    """The two programs of a bootable image and the image itself; `symbols` are the engine's."""

    engine: Program
    host: Program
    image: bytes
    symbols: Symbols

    @property
    def host_offset(self) -> int:
        """Where the host program starts in the image."""
        return -(-(self.engine.end - self.engine.base) // PAGE) * PAGE

    def largest(self, count: int = 20) -> list[Symbol]:
        """The engine's largest symbols."""
        return sorted(self.symbols.all, key=lambda one: -one.size)[:count]


def read_layout(engine: Path, host: Path, image: Path) -> Layout:
    """Read the engine's and the host program's ELF files and the bootable image."""
    return Layout(read_program(engine), read_program(host), image.read_bytes(), Symbols(engine))


def faults(layout: Layout) -> list[str]:
    """Everything wrong with the layout, in words; empty if the image may be booted."""
    return [
        *_segment_faults(layout.engine, window("IMAGE")),
        *_overlaps(layout.host),
        *_header_faults(layout),
        *_byte_faults(layout),
    ]


def check(layout: Layout) -> None:
    """CheckFailed naming the faults, if there are any."""
    found = faults(layout)
    if found:
        shown = "\n".join(f"    {fault}" for fault in found[:FAULTS_SHOWN])
        more = f"\n    and {len(found) - FAULTS_SHOWN} more" if len(found) > FAULTS_SHOWN else ""
        raise CheckFailed(
            f"the image is refused:\n{shown}{more}",
            hint="build it again; if that does not help, mend the linker script",
        )


def _segment_faults(program: Program, allowed: Window) -> Iterator[str]:
    for segment in program.segments:
        name = f"segment {segment.address:#x}..{segment.end:#x} ({segment.permissions})"
        if segment.writable and segment.executable:
            yield f"{name} is writable and executable"
        if segment.address < allowed.base or segment.end > allowed.base + allowed.size:
            yield f"{name} lies outside the window {allowed.name}"
        if segment.address % PAGE:
            yield f"{name} does not start on a page"
    for section in program.sections:
        name = f"section {section.name} {section.address:#x}..{section.end:#x}"
        home = [one for one in program.segments if one.address <= section.address and section.end <= one.end]
        if not home:
            yield f"{name} is in no segment"
        elif (section.writable and not home[0].writable) or (section.executable and not home[0].executable):
            yield f"{name} needs more than its segment allows ({home[0].permissions})"
    yield from _overlaps(program)


def _overlaps(program: Program) -> Iterator[str]:
    kinds: dict[str, tuple[Segment | Section, ...]] = {
        "segments": program.segments,
        "sections": program.sections,
    }
    for kind, parts in kinds.items():
        for before, after in pairwise(sorted(parts, key=lambda one: one.address)):
            if after.address < before.end:
                ranges = [f"{one.address:#x}..{one.end:#x}" for one in (before, after)]
                yield f"{kind} {ranges[0]} and {ranges[1]} overlap"
    pages: dict[int, str] = {}
    for segment in program.segments if program.base else ():
        for page in range(segment.address // PAGE, -(-segment.end // PAGE)):
            if pages.setdefault(page, segment.permissions) != segment.permissions:
                both = f"{pages[page]} and {segment.permissions}"
                yield f"page {page * PAGE:#x} would need the permissions {both}"


def _header_faults(layout: Layout) -> Iterator[str]:
    for what, offset, least in (
        ("engine", 0, layout.engine.end - layout.engine.base),
        ("host program", layout.host_offset, layout.host.end - layout.host.base),
    ):
        header = layout.image[offset : offset + HEADER_SIZE]
        if header[56:60] != b"ARM\x64":
            yield f"the {what}'s arm64 Image header is missing at offset {offset:#x}"
            continue
        (size,) = struct.unpack_from("<Q", header, 16)
        if size < least:
            yield f"the {what}'s header claims {size:#x} bytes of memory, it needs {least:#x}"


def _byte_faults(layout: Layout) -> Iterator[str]:
    engine, host = layout.engine.flat(), layout.host.flat()
    wanted = bytearray(engine.ljust(layout.host_offset, b"\0") + host)
    image = layout.image
    # The engine's header is told the length of the whole file, so that a loader keeps all of it.
    wanted[SIZE_FIELD] = len(image).to_bytes(8, "little")
    if len(image) < layout.host_offset:
        yield f"the image ends at {len(image):#x}, inside the engine"
    # The host program's zero-filled end may be missing in the file: its header makes the engine keep it free.
    stored = layout.host_offset + max(
        s.address - layout.host.base + len(s.content) for s in layout.host.segments
    )
    if len(image) < stored:
        yield f"the image ends at {len(image):#x}, the host program's content at {stored:#x}"
    for start, end in _differences(image, bytes(wanted.ljust(len(image), b"\0")[: len(image)])):
        yield f"bytes {start:#x}..{end:#x} of the image differ from {_place(layout, start)}"


def _differences(left: bytes, right: bytes) -> Iterator[tuple[int, int]]:
    """Ranges in which two byte strings of one length differ, at most one for each page."""
    for page in range(0, len(left), PAGE):
        one, other = left[page : page + PAGE], right[page : page + PAGE]
        if one != other:
            different = [index for index in range(len(one)) if one[index] != other[index]]
            yield page + different[0], page + different[-1] + 1


def _place(layout: Layout, offset: int) -> str:
    """Which part of which ELF file the image's byte at `offset` should come from."""
    program, relative = layout.engine, offset
    if offset >= layout.host_offset:
        program, relative = layout.host, offset - layout.host_offset
    address = program.base + relative
    for section in program.sections:
        if section.address <= address < section.end:
            return f"{program.path.name}, section {section.name}, address {address:#x}"
    return "zero padding"


def main() -> None:
    """Build, show the layout, draw it to `build/layout.svg`, and refuse it if it is wrong (CheckFailed)."""
    from rich.console import Console

    from bulkhead.image import build
    from bulkhead.report.layout import draw_layout, print_layout

    images = build.build()
    layout = read_layout(images.elf, images.host_elf, images.image)
    console = Console(width=None if sys.stdout.isatty() else 120)
    print_layout(layout, console)
    drawing = build.BUILD / "layout.svg"
    draw_layout(layout, drawing)
    console.print(f"drawing: {drawing}")
    check(layout)
    console.print(
        "no overlap, nothing writable and executable, nothing outside its window, every byte as linked"
    )
