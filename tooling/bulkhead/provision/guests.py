"""The stock guest: Debian's unmodified arm64 cloud kernel and a BusyBox initial RAM disk; stock firmware for guests.

Trust label: TOOL.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import ProvisionError
from bulkhead.provision import apt, cpio, pins
from bulkhead.provision.kernel_image import check_kernel
from bulkhead.provision.paths import cache_dir, make_once, say

__all__ = ["FIRMWARE", "GuestImages", "check_kernel", "ensure", "ensure_firmware", "initial_ramdisk"]

# What a disk and the random number calls need; none depends on another module.
MODULES = ("virtio_mmio", "virtio_blk", "arm_smccc_trng")
READY = "bulkhead-guest: ready"
FIRMWARE = ("uefi", "u-boot")  # in pins.toml
_INIT = Path(__file__).with_name("guest-init.sh")


@dataclass(frozen=True)
class GuestImages:
    """A kernel (raw arm64 `Image`) and its initial RAM disk (cpio, not compressed)."""

    kernel: Path
    initrd: Path


def ensure() -> GuestImages:
    """The pinned guest, downloaded and built if the cache lacks it. Raises ProvisionError."""
    root = make_once(_place(), lambda into: _build(into, pins.group("guests", "packages")))
    return GuestImages(check_kernel(root / "vmlinuz"), root / "initramfs.cpio")


def is_there() -> bool:
    """Whether the cache has the pinned guest."""
    return _place().is_dir()


def _place() -> Path:
    packages = pins.group("guests", "packages")
    inputs = [*(pin.sha256 for pin in packages), hashlib.sha256(_INIT.read_bytes()).hexdigest()]
    return cache_dir() / "guests" / hashlib.sha256("".join(inputs).encode()).hexdigest()[:16]


def ensure_firmware(name: str) -> Path:
    """The pinned firmware `uefi` or `u-boot`, downloaded if the cache lacks it. Raises ProvisionError."""
    pin = pins.group("firmware", name, "packages")[0]
    source = str(pins.setting("firmware", name, "file"))
    key = hashlib.sha256(f"{pin.sha256}{source}".encode()).hexdigest()[:16]
    root = make_once(cache_dir() / "guests" / key, lambda into: _take_out(into, pin, source))
    return root / Path(source).name


def _take_out(into: Path, pin: pins.Pin, source: str) -> None:
    files = into / "files"
    files.mkdir()
    apt.unpack(apt.fetch_or_successor(pin), files)
    if not (files / source).is_file():
        raise ProvisionError(
            f"the package {pin.spec} does not hold {source}", where=files,
            hint="the pins in pins.toml name a package of another form; correct them",
        )  # fmt: skip
    (files / source).rename(into / Path(source).name)
    shutil.rmtree(files)


def initial_ramdisk(busybox: bytes, modules: Mapping[str, bytes] | None = None) -> bytes:
    """The initial RAM disk around a static BusyBox program and kernel modules; the same bytes for the same programs."""
    return cpio.archive(
        [
            cpio.directory("bin"),
            cpio.program("bin/busybox", busybox),
            cpio.symlink("bin/sh", "busybox"),
            cpio.directory("dev"),
            # Linux opens it for /init before anything can be mounted (major 5, minor 1: devices.txt).
            cpio.character_device("dev/console", 5, 1),
            cpio.program("init", _INIT.read_bytes()),
            cpio.directory("modules"),
            *(cpio.program(f"modules/{name}", content) for name, content in (modules or {}).items()),
        ]
    )


def _module(files: Path, name: str) -> bytes:
    """One of the kernel's modules, not compressed."""
    found = list(files.glob(f"**/{name}.ko.xz"))
    if len(found) != 1:
        raise ProvisionError(
            f"the guest packages do not hold one {name}.ko.xz", where=files,
            hint="the pins in pins.toml name packages of another form; correct them",
        )  # fmt: skip
    return lzma.decompress(found[0].read_bytes())


def _build(into: Path, packages: tuple[pins.Pin, ...]) -> None:
    debs = apt.fetch(packages)
    say("unpacking the guest kernel and building its initial RAM disk")
    files = into / "files"
    files.mkdir()
    for deb in debs.values():
        apt.unpack(deb, files)
    kernels = list((files / "boot").glob("vmlinuz-*"))
    busybox = next(
        (path for path in (files / "bin/busybox", files / "usr/bin/busybox") if path.is_file()), None
    )
    if len(kernels) != 1 or busybox is None:
        raise ProvisionError(
            "the guest packages do not hold one kernel and one busybox", where=files,
            hint="the pins in pins.toml name packages of another form; correct them",
        )  # fmt: skip
    kernels[0].rename(into / "vmlinuz")
    modules = {f"{name}.ko": _module(files, name) for name in MODULES}
    (into / "initramfs.cpio").write_bytes(initial_ramdisk(busybox.read_bytes(), modules))
    shutil.rmtree(files)
