"""Reading a guest's files: what a kernel says about itself, and the refusal of what cannot be booted.

Trust label: TOOL. Source: Linux Documentation/arch/arm64/booting.rst (the 64-byte Image header).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.provision.kernel_image import check_kernel

FLAG_BIG_ENDIAN = 1
DISK_MAX = 128 << 20  # bytes
GIVE_IMAGE = "give an uncompressed arm64 Image with --kernel (or a flat binary with --load-address)"


@dataclass(frozen=True)
class Kernel:
    """A guest kernel: where it wants to be relative to a 2 MiB boundary, and what it occupies there."""

    path: Path
    content: bytes
    text_offset: int
    image_size: int
    flat: bool = False


def read_file(path: Path, what: str) -> bytes:
    """The content of a file the user named. InvalidInput if it cannot be read or is empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(f"the {what} does not exist", where=path, hint="check the path") from error
    except OSError as error:
        hint = "name a file that you may read"
        raise InvalidInput(f"the {what} cannot be read: {error.strerror}", where=path, hint=hint) from error
    if not content:
        raise InvalidInput(f"the {what} is empty", where=path, hint="check how it was made")
    return content


def read_disk(path: Path) -> bytes:
    """The image of a disk. InvalidInput if it cannot be read or is larger than a guest's disk can be."""
    content = read_file(path, "disk")
    if len(content) > DISK_MAX:
        hint = f"name a file of at most {DISK_MAX >> 20} MiB"
        raise InvalidInput(f"the disk has {len(content) / (1 << 20):.0f} MiB", where=path, hint=hint)
    return content


def read_kernel(path: Path, *, flat: bool = False) -> Kernel:
    """Read and check a kernel; with `flat`, any bytes are accepted as they are (no header needed)."""
    content = read_file(path, "kernel")
    if flat:
        return Kernel(path, content, 0, len(content), flat=True)
    check_kernel(path)
    text_offset, image_size, flags = struct.unpack_from("<QQQ", content, 8)
    if flags & FLAG_BIG_ENDIAN:
        raise InvalidInput("this kernel is big-endian", where=path, hint="take a little-endian one")
    page_size = flags >> 1 & 3
    if page_size not in (0, 1):
        raise InvalidInput(
            f"this kernel is built for pages of {(0, 4, 16, 64)[page_size]} KiB",
            where=path,
            hint="take one for 4 KiB",
        )
    if image_size == 0 or text_offset >= 2 << 20 or image_size > 1 << 32:
        raise InvalidInput("the Image header makes no sense", where=path, hint=GIVE_IMAGE)
    return Kernel(path, content, text_offset, max(image_size, len(content)))
