"""The image is the same, byte for byte, from another directory, and an unchanged tree is not built again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bulkhead.image import build
from bulkhead.provision.paths import REPOSITORY

PARTS = ("engine", "hypervisor-shim", "tooling")
PROGRAM = "import sys\nfrom bulkhead.image.build import build\nprint(build('pinned', sys.argv[1]).sha256)"
WARM_SECONDS = 2.0


def copy_of_the_tree(place: Path) -> Path:
    """The sources, without anything that was built."""
    ignore = shutil.ignore_patterns("target", "__pycache__", "_engine")
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, place / part, ignore=ignore, symlinks=True)
    return place


@pytest.mark.slow
def test_another_directory_makes_the_same_image(tmp_path: Path) -> None:
    program: build.HostProgram = "shim"
    there = copy_of_the_tree(tmp_path / "another" / "place")
    here = build.build("pinned", program)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, program],
        cwd=there,
        env={**os.environ, "PYTHONPATH": str(there / "tooling")},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    assert done.stdout.split() == [here.sha256]
    for name in (f"{program}.elf", "bulkhead.elf"):
        ours, theirs = (root / "build" / f"{program}-pinned" / name for root in (REPOSITORY, there))
        assert ours.read_bytes() == theirs.read_bytes()


def test_no_local_path_is_in_the_image() -> None:
    programs: tuple[build.HostProgram, ...] = ("shim", "payload")
    for program in programs:
        images = build.build("pinned", program)
        for path in (images.image, images.elf, images.host_elf):
            data = path.read_bytes()
            for local in (REPOSITORY, Path.home()):
                assert str(local).encode() + b"/" not in data, f"{path} contains {local}"


def test_an_unchanged_tree_is_not_built_again() -> None:
    images = build.build("pinned", "payload")
    before = images.image.stat().st_mtime_ns
    start = time.monotonic()
    assert build.build("pinned", "payload") == images
    assert time.monotonic() - start < WARM_SECONDS
    assert images.image.stat().st_mtime_ns == before


def test_a_spoilt_image_is_built_again() -> None:
    images = build.build("pinned", "payload")
    data = bytearray(images.image.read_bytes())
    data[0x2000] ^= 1
    images.image.write_bytes(data)
    assert build.build("pinned", "payload") == images
    data[0x2000] ^= 1
    assert images.image.read_bytes() == data
