"""The image is the same, byte for byte, from another directory, and an unchanged tree is not built again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bulkhead.image import build
from bulkhead.provision.paths import REPOSITORY

PARTS = ("engine", "hypervisor-shim", "tooling")
PROGRAM = "import sys\nfrom bulkhead.image.build import build\nprint(build('pinned', sys.argv[1]).sha256)"
SHIM: build.HostProgram = "shim"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The sources in another directory, without anything that was built."""
    place = tmp_path / "another" / "place"
    ignore = shutil.ignore_patterns("target", "__pycache__", "_engine")
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, place / part, ignore=ignore, symlinks=True)
    return place


def built_in(there: Path) -> str:
    """Builds the image in a copy of the sources; its hash."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, SHIM],
        cwd=there,
        env={**os.environ, "PYTHONPATH": str(there / "tooling")},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_another_directory_makes_the_same_image_and_mends_a_spoilt_one(elsewhere: Path) -> None:
    here = build.build("pinned", SHIM)
    assert built_in(elsewhere) == here.sha256
    for name in (f"{SHIM}.elf", "bulkhead.elf"):
        ours, theirs = (root / "build" / f"{SHIM}-pinned" / name for root in (REPOSITORY, elsewhere))
        assert ours.read_bytes() == theirs.read_bytes()
    image = elsewhere / "build" / f"{SHIM}-pinned" / "bulkhead.img"
    right = image.read_bytes()
    assert right == here.image.read_bytes()
    image.write_bytes(right[:0x2000] + bytes([right[0x2000] ^ 1]) + right[0x2001:])
    assert built_in(elsewhere) == here.sha256
    assert image.read_bytes() == right


def test_no_local_path_is_in_the_image() -> None:
    programs: tuple[build.HostProgram, ...] = ("shim", "payload")
    for program in programs:
        images = build.build("pinned", program)
        for path in (images.image, images.elf, images.host_elf):
            data = path.read_bytes()
            for local in (REPOSITORY, Path.home()):
                assert str(local).encode() + b"/" not in data, f"{path} contains {local}"


def test_an_unchanged_tree_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images = build.build("pinned", "payload")
    before = images.image.stat().st_mtime_ns
    monkeypatch.setattr(build, "cargo", None)
    assert build.build("pinned", "payload") == images
    assert images.image.stat().st_mtime_ns == before
