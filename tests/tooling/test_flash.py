"""Writing the image: whole or not at all, read back, and never over something that is no target."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.image import flash as module
from bulkhead.image.flash import flash


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)) * 5000)
    return path


def test_a_new_file(tmp_path: Path, image: Path) -> None:
    assert flash(image, tmp_path / "out.img") == image.stat().st_size
    assert (tmp_path / "out.img").read_bytes() == image.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "out.img"]


def test_an_existing_file_keeps_its_mode(tmp_path: Path, image: Path) -> None:
    target = tmp_path / "out.img"
    target.write_bytes(b"old")
    target.chmod(0o600)
    flash(image, target)
    assert target.read_bytes() == image.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600


def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.img"
    target.write_bytes(b"old")
    fsync = module.os.fsync

    def damaging(fd: int) -> None:
        module.os.pwrite(fd, b"\xee", 77)
        fsync(fd)

    monkeypatch.setattr(module.os, "fsync", damaging)
    with pytest.raises(CheckFailed, match="reads back differently"):
        flash(image, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "out.img"]


@pytest.mark.parametrize("target", ["/dev/null", "/proc", "/nonexistent/directory/out.img"])
def test_what_is_no_target(image: Path, target: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        flash(image, Path(target))
    assert caught.value.hint
