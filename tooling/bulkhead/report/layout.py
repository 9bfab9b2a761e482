"""The image's layout as terminal tables and as a drawing. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from bulkhead.image.elf import Program, Segment
from bulkhead.image.layout import Layout
from bulkhead.image.memory_map import WINDOWS

COLOURS = {"r-x": "#8fb8de", "r--": "#c9d6a3", "rw-": "#f0c987", "rwx": "#e57373"}
WIDTH = 860
LEFT = 250
ROW = 26


def print_layout(layout: Layout, console: Console) -> None:
    """Segments, sections and the largest symbols of the engine, then the host program's segments."""
    for title, program in (("Engine", layout.engine), ("Host program", layout.host)):
        table = Table(
            "part",
            "from",
            "to",
            "bytes",
            "access",
            title=f"{title}: {program.path.name}",
            title_justify="left",
        )
        for name, address, end, access in _parts(program):
            table.add_row(name, f"{address:#x}", f"{end:#x}", str(end - address), access)
        console.print(table)
    table = Table("symbol", "address", "bytes", title="Largest symbols of the engine", title_justify="left")
    for symbol in layout.largest():
        table.add_row(symbol.name, f"{symbol.address:#x}", str(symbol.size))
    console.print(table)
    console.print(
        f"bootable image: {len(layout.image)} bytes, engine {layout.host_offset}, "
        f"host program {len(layout.image) - layout.host_offset}"
    )


def _parts(program: Program) -> Iterator[tuple[str, int, int, str]]:
    for segment in program.segments:
        yield "segment", segment.address, segment.end, segment.permissions
        for section in program.sections:
            if segment.address <= section.address < segment.end:
                yield (
                    f"  {section.name}",
                    section.address,
                    section.end,
                    _letters(section.writable, section.executable),
                )


def _letters(writable: bool, executable: bool) -> str:
    return "r" + ("w" if writable else "-") + ("x" if executable else "-")


@dataclass(frozen=True)
class Row:
    """One line of the drawing."""

    label: str
    detail: str
    colour: str


def _rows(layout: Layout) -> Iterator[Row]:
    yield Row("EL2 address space", "windows", "#ffffff")
    for one in WINDOWS:
        yield Row(f"{one.base:#x}", f"{one.name}: {one.doc}", "#e8e8e8")
    yield Row("Engine image", f"{layout.engine.end - layout.engine.base} bytes", "#ffffff")
    yield from (_segment_row(layout.engine, segment) for segment in layout.engine.segments)
    yield Row("Host program", f"at offset {layout.host_offset:#x} of the image", "#ffffff")
    yield from (_segment_row(layout.host, segment) for segment in layout.host.segments)


def _segment_row(program: Program, segment: Segment) -> Row:
    names = [one.name for one in program.sections if segment.address <= one.address < segment.end]
    detail = f"{segment.permissions}  {segment.size} bytes  {' '.join(names)}"
    return Row(f"{segment.address:#x}", detail, COLOURS[segment.permissions])


def draw_layout(layout: Layout, path: Path) -> None:
    """Write the memory map as an SVG drawing."""
    rows = list(_rows(layout))
    height = ROW * (len(rows) + 1)
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "width": str(WIDTH), "height": str(height)}
    svg = ElementTree.Element("svg", {**attributes, "font-family": "monospace", "font-size": "13"})
    ElementTree.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    for index, row in enumerate(rows):
        top = ROW * index + ROW // 2
        heading = row.colour == "#ffffff"
        if not heading:
            box = {"x": str(LEFT - 10), "y": str(top), "width": str(WIDTH - LEFT), "height": str(ROW - 2)}
            ElementTree.SubElement(svg, "rect", {**box, "fill": row.colour, "stroke": "#666666"})
        weight = {"font-weight": "bold"} if heading else {}
        for x, text in ((12, row.label), (LEFT, row.detail)):
            position = {"x": str(x), "y": str(top + ROW - 9), **weight}
            ElementTree.SubElement(svg, "text", position).text = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ElementTree.tostring(svg, encoding="unicode"))
