"""The real image: its layout passes, a corrupted copy does not, its symbols have lines, and gdb knows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed
from bulkhead.image import build
from bulkhead.image.layout import Layout, check, faults, read_layout
from bulkhead.machine import debug
from bulkhead.provision.paths import REPOSITORY
from bulkhead.report.layout import draw_layout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> build.Images:
    return build.build()


@pytest.fixture(scope="module")
def layout(images: build.Images) -> Layout:
    return read_layout(images.elf, images.host_elf, images.image)


def test_the_layout_passes(layout: Layout) -> None:
    check(layout)


def test_a_corrupted_copy_is_refused(layout: Layout, images: build.Images, tmp_path: Path) -> None:
    content = bytearray(images.image.read_bytes())
    for offset in (0x900, layout.host_offset - 1, layout.host_offset + 0x100, len(content) - 1):
        damaged = bytearray(content)
        damaged[offset] ^= 1
        copy = tmp_path / "copy.img"
        copy.write_bytes(damaged)
        with pytest.raises(CheckFailed, match=f"{offset:#x}"):
            check(read_layout(images.elf, images.host_elf, copy))
    assert faults(replace(layout, image=bytes(content[:-4096])))


def test_functions_have_source_lines(layout: Layout) -> None:
    symbol = next(one for one in layout.symbols.all if one.name.endswith("vm_create::vm_create"))
    line = layout.symbols.line(symbol.address)
    assert line is not None
    assert line.file.startswith("core/src/call/")
    lines = {layout.symbols.line(at) for at in range(symbol.address, symbol.address + symbol.size, 4)}
    assert any(one is not None and one.file.endswith("call/vm_create.rs") for one in lines)
    assert layout.symbols.describe(symbol.address + 4).startswith(symbol.name + "+0x4 (")
    assert layout.symbols.at(symbol.address + symbol.size - 4) == symbol


def test_the_drawing_names_every_segment(layout: Layout, tmp_path: Path) -> None:
    draw_layout(layout, tmp_path / "layout.svg")
    text = (tmp_path / "layout.svg").read_text()
    assert text.startswith("<svg")
    assert all(f"{segment.address:#x}" in text for segment in layout.engine.segments)


@pytest.mark.qemu
def test_gdb_stops_in_the_engine_with_its_source_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        debug.main(batch=("hbreak bulkhead::boot::load_host", "continue", "info source", "info registers pc"))
        == 0
    )
    told = capfd.readouterr().out
    assert "load_host" in told
    assert "boot.rs" in told
    assert f"{REPOSITORY}/engine/image/src/boot.rs" in told
    assert "0x8000000" in told
