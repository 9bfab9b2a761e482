"""The layout is refused for each thing that can be wrong with it, and for a single wrong byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.image.elf import Program, Section, Segment, read_program
from bulkhead.image.layout import Layout, check, faults
from bulkhead.image.memory_map import PAGE, window
from bulkhead.inspect.symbols import Symbols

IMAGE = window("IMAGE")
TEXT, RODATA, DATA = IMAGE.base, IMAGE.base + 2 * PAGE, IMAGE.base + 3 * PAGE


def header(size: int) -> bytes:
    return struct.pack("<IIQQQQQQ4sI", 0, 0, 0, size, 0, 0, 0, 0, b"ARM\x64", 0)


class NoSymbols(Symbols):
    """Layout checks do not look at symbols."""

    def __init__(self) -> None:
        self.all = []


def good() -> Layout:
    """An engine of text, rodata, data with bss, and a host program; the image as the build joins them."""
    text = (header(0) + b"T" * 5000).ljust(2 * PAGE, b"\0")
    engine = Program(
        Path("engine.elf"), TEXT,
        (
            Segment(TEXT, 2 * PAGE, text, writable=False, executable=True),
            Segment(RODATA, PAGE, b"R" * PAGE, writable=False, executable=False),
            Segment(DATA, 3 * PAGE, b"D" * 100, writable=True, executable=False),
        ),
        (
            Section(".text", TEXT, 5064, writable=False, executable=True),
            Section(".rodata", RODATA, PAGE, writable=False, executable=False),
            Section(".data", DATA, 100, writable=True, executable=False),
            Section(".bss", DATA + PAGE, 2 * PAGE, writable=True, executable=False),
        ),
    )  # fmt: skip
    content = header(3 * PAGE) + b"H" * 200
    program = Program(
        Path("host.elf"), 0, (Segment(0, 3 * PAGE, content, writable=True, executable=True),),
        (Section(".text", 0, 264, writable=False, executable=True),),
    )  # fmt: skip
    image = bytearray(engine.flat() + content.ljust(PAGE, b"\0"))
    image[16:24] = len(image).to_bytes(8, "little")
    return Layout(engine, program, bytes(image), NoSymbols())


def with_segment(index: int, change: Callable[[Segment], Segment]) -> Layout:
    layout = good()
    segments = list(layout.engine.segments)
    segments[index] = change(segments[index])
    return replace(layout, engine=replace(layout.engine, segments=tuple(segments)))


def test_a_good_layout_passes() -> None:
    assert faults(good()) == []
    check(good())


@pytest.mark.parametrize("offset", [0, 100, 2 * PAGE - 1, 2 * PAGE, 3 * PAGE + 99, 3 * PAGE + 100, 6 * PAGE - 1,
                                    6 * PAGE + 70, 6 * PAGE + 263, 7 * PAGE - 1])  # fmt: skip
def test_one_wrong_byte_is_refused(offset: int) -> None:
    layout = good()
    image = bytearray(layout.image)
    image[offset] ^= 0x20
    found = faults(replace(layout, image=bytes(image)))
    assert len(found) == 1
    assert f"{offset:#x}..{offset + 1:#x}" in found[0]
    with pytest.raises(CheckFailed, match="refused"):
        check(replace(layout, image=bytes(image)))


def test_a_cut_off_or_longer_image_is_refused() -> None:
    layout = good()
    for image in (layout.image[: 4 * PAGE], layout.image[: 6 * PAGE], layout.image + bytes(PAGE)):
        assert faults(replace(layout, image=image))


def test_writable_and_executable_is_refused() -> None:
    found = faults(with_segment(0, lambda one: replace(one, writable=True)))
    assert any("writable and executable" in fault for fault in found)


def test_overlap_is_refused() -> None:
    found = faults(with_segment(0, lambda one: replace(one, size=3 * PAGE)))
    assert any("overlap" in fault for fault in found)


def test_outside_the_window_is_refused() -> None:
    found = faults(with_segment(2, lambda one: replace(one, size=IMAGE.size)))
    assert any("outside the window" in fault for fault in found)


def test_one_page_with_two_permissions_is_refused() -> None:
    found = faults(with_segment(1, lambda one: replace(one, address=RODATA - 64, size=64, content=b"")))
    assert any("would need the permissions" in fault for fault in found)


def test_a_section_that_needs_more_than_its_segment_is_refused() -> None:
    layout = good()
    sections = (*layout.engine.sections, Section(".late", RODATA, 8, writable=True, executable=False))
    found = faults(replace(layout, engine=replace(layout.engine, sections=sections)))
    assert any("needs more" in fault for fault in found)


def test_files_that_are_no_program(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    for content in (b"", b"nothing", Path("/bin/true").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InvalidInput):
            read_program(path)
