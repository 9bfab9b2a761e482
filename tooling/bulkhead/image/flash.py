"""Writing the bootable image to a file or a block device, and reading it back.

Trust label: TOOL. A file appears whole or not at all; a device is written only if it was named by its path.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import tempfile
from pathlib import Path

from bulkhead.errors import CheckFailed, InvalidInput, MachineError

BLKGETSIZE64 = 0x8008_1272  # linux/fs.h: _IOR(0x12, 114, size_t)
CHUNK = 1 << 20


def flash(image: Path, target: Path) -> int:
    """Write `image` to `target` (a new or existing file, or a block device), verify it, and return its size
    in bytes.

    InvalidInput if the target cannot take it (nothing is changed then), CheckFailed if it reads back
    differently.
    """
    content = image.read_bytes()
    try:
        if target.is_block_device():
            _to_device(content, target)
        elif target.exists() and not target.is_file():
            hint = "name a file or a block device"
            raise InvalidInput("the target is neither a file nor a block device", where=target, hint=hint)
        else:
            _to_file(content, target)
    except OSError as error:
        hint = "check the path, your rights and the free space"
        raise InvalidInput(
            f"the image cannot be written: {error.strerror}", where=target, hint=hint
        ) from error
    return len(content)


def _to_file(content: bytes, target: Path) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        _verify(content, Path(name), target)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _to_device(content: bytes, target: Path) -> None:
    # O_EXCL on a block device fails with EBUSY while it is mounted or otherwise in use (open(2)).
    fd = os.open(target, os.O_WRONLY | os.O_EXCL)
    with os.fdopen(fd, "wb", buffering=0) as stream:
        size = struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0]
        if size < len(content):
            hint = "name a larger device"
            raise InvalidInput(
                f"the device has {size} bytes, the image {len(content)}", where=target, hint=hint
            )
        for start in range(0, len(content), CHUNK):
            if stream.write(content[start : start + CHUNK]) != len(content[start : start + CHUNK]):
                raise MachineError(
                    "the device took only a part", where=target, hint="write again; the device may be bad"
                )
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    _verify(content, target, target)


def _verify(content: bytes, written: Path, target: Path) -> None:
    with written.open("rb") as stream:
        if stream.read(len(content)) != content:
            raise CheckFailed(
                "what was written reads back differently", where=target, hint="the medium may be bad"
            )


def main(to: str, payload: bool = False) -> None:
    """Build the bootable image, refuse it if its layout is wrong, and write it to the file or device `to`.

    With `payload`, its host program is the one that conformance tests drive, not the hypervisor.
    """
    from bulkhead.image import build
    from bulkhead.image.layout import check, read_layout

    if not to:
        raise InvalidInput("nowhere to write to", where="--to", hint="name a file or a block device")
    target = Path(to).expanduser()
    if not target.parent.is_dir():
        raise InvalidInput("there is no such directory", where=target.parent, hint="create it first")
    images = build.build(host_program="payload" if payload else "shim")
    check(read_layout(images.elf, images.host_elf, images.image))
    size = flash(images.image, target)
    print(f"{size} bytes written to {target}, read back and found equal (SHA-256 {images.sha256})")
