"""The cache's atomic directories, RAM disk archives, kernel diagnosis, and the form of the pins."""

from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.errors import InvalidInput
from bulkhead.provision import cpio, guests, paths, pins, toolchain
from bulkhead.provision.kernel_image import check_kernel

GROUPS = (
    ("toolchain", "compiler"),
    ("toolchain", "libraries"),
    ("toolchain", "sources"),
    ("guests", "packages"),
    ("pkvm", "source"),
    ("pkvm", "tools"),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_failed_making_leaves_nothing(cache: Path) -> None:
    def half(into: Path) -> None:
        (into / "file").write_text("half")
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError):
        paths.make_once(cache / "things" / "thing", half)
    assert list((cache / "things").iterdir()) == []


def test_two_makers_at_once_make_it_once(cache: Path) -> None:
    calls: list[Path] = []
    barrier = threading.Barrier(2, timeout=30)

    def make() -> None:
        barrier.wait()
        paths.make_once(cache / "things" / "thing", calls.append)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1
    assert (cache / "things" / "thing").is_dir()


def test_a_cache_path_with_white_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(InvalidInput, match="white space"):
        paths.cache_dir()


@pytest.mark.parametrize("group", GROUPS, ids=".".join)
def test_pins_are_complete_and_different(group: tuple[str, ...]) -> None:
    entries = pins.group(*group)
    assert entries
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.size > 0
        assert not entry.suite.endswith("-security"), "that suite drops versions"


def unpacked(data: bytes) -> list[tuple[str, int, bytes, tuple[int, int]]]:
    """The records of a newc archive, read from its description: name, mode, data, device."""
    found, position = [], 0
    while True:
        assert data[position : position + 6] == b"070701"
        numbers = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        start = position + 110
        name = data[start : start + numbers[11] - 1].decode()
        body = (start + numbers[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        content = data[body : body + numbers[6]]
        found.append((name, numbers[1], content, (numbers[9], numbers[10])))
        position = (body + numbers[6] + 3) & ~3


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,9}(/[a-z]{1,9})?", fullmatch=True), st.binary(max_size=40), max_size=6
    )
)
def test_an_archive_holds_its_entries_in_any_order_the_same(files: dict[str, bytes]) -> None:
    entries = [cpio.program(name, data) for name, data in files.items()]
    data = cpio.archive(entries)
    assert data == cpio.archive(reversed(entries))
    assert [(name, body) for name, _, body, _ in unpacked(data)] == sorted(files.items())


def test_the_ram_disk_has_what_linux_opens_first() -> None:
    records = {
        name: (mode, body, device)
        for name, mode, body, device in unpacked(guests.initial_ramdisk(b"\x7fELF"))
    }
    mode, _, device = records["dev/console"]
    assert stat.S_ISCHR(mode)
    assert device == (5, 1)
    mode, body, _ = records["init"]
    assert mode == stat.S_IFREG | 0o755
    assert guests.READY.encode() in body


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput):
        cpio.archive([cpio.directory("a"), cpio.program("a", b"")])


KERNELS = {
    "gzip": (b"\x1f\x8b" + bytes(98), "gunzip"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(96), "zstd -dc"),
    "zboot": (b"MZ\0\0zimg" + bytes(16) + b"gzip" + bytes(72), "zboot"),
    "elf-x86": (b"\x7fELF" + bytes(14) + b"\x3e\0" + bytes(80), "x86-64"),
    "elf-arm64": (b"\x7fELF" + bytes(14) + b"\xb7\0" + bytes(80), "objcopy"),
    "bzImage": (b"MZ" + bytes(0x200) + b"HdrS" + bytes(80), "x86 kernel"),
    "short": (b"MZ", "only 2 bytes"),
    "text": (b"hello " * 50, "magic"),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_a_kernel_that_cannot_boot_is_explained(kind: str, tmp_path: Path) -> None:
    content, expected = KERNELS[kind]
    path = tmp_path / "kernel"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        check_kernel(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_kernel_that_is_missing_or_a_directory_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such kernel"):
        check_kernel(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="directory"):
        check_kernel(tmp_path)


def test_an_image_passes(tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(bytes(56) + b"ARM\x64" + bytes(100))
    assert check_kernel(path) == path


def test_an_unknown_toolchain_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pinned"):
        toolchain.parse_kind("nightly")
