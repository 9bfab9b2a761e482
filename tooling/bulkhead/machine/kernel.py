"""Recognising a guest kernel: what is bootable, what is not and what to do about it.

Trust label: TOOL. Source: Linux Documentation/arch/arm64/booting.rst (the 64-byte Image header), and
include/linux/pe.h with drivers/firmware/efi/libstub/zboot-header.S (compressed EFI images).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import InvalidInput

HEADER_SIZE = 64
FLAG_BIG_ENDIAN = 1
GIVE_IMAGE = "give an uncompressed arm64 Image with --kernel (or a flat binary with --load-address)"

# Beginnings of files that people take for kernels: what they are, and the next step.
IMPOSTORS = (
    (0, b"\x1f\x8b", "is compressed with gzip", "unpack it: gzip -dc FILE > Image"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it: zstd -dc FILE > Image"),
    (0, b"\xfd7zXZ\0", "is compressed with xz", "unpack it: xz -dc FILE > Image"),
    (0, b"BZh", "is compressed with bzip2", "unpack it: bzip2 -dc FILE > Image"),
    (0, b"\x04\x22\x4d\x18", "is compressed with LZ4", "unpack it: lz4 -dc FILE > Image"),
    (4, b"zimg", "is a compressed EFI image (zboot)", "unpack it, or take a kernel with an uncompressed Image"),
    (514, b"HdrS", "is a kernel for x86, not for arm64", GIVE_IMAGE),
    (0, b"\x7fELF", "is an ELF file", "convert it: objcopy -O binary vmlinux Image"),
    (36, b"\x18\x28\x6f\x01", "is a zImage for 32-bit Arm", GIVE_IMAGE),
)


@dataclass(frozen=True)
class Kernel:
    """A guest kernel in memory: where it wants to be relative to a 2 MiB boundary, and what it occupies there."""

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


def read_kernel(path: Path, *, flat: bool = False) -> Kernel:
    """Read and check a kernel; with `flat`, any bytes are accepted as they are (no header needed)."""
    content = read_file(path, "kernel")
    if flat:
        return Kernel(path, content, 0, len(content), flat=True)
    for offset, magic, what, hint in IMPOSTORS:
        if content[offset : offset + len(magic)] == magic:
            raise InvalidInput(f"this kernel {what}", where=path, hint=hint)
    if len(content) < HEADER_SIZE or content[56:60] != b"ARM\x64":
        raise InvalidInput("this is no arm64 kernel: its Image header is missing", where=path, hint=GIVE_IMAGE)
    text_offset, image_size, flags = struct.unpack_from("<QQQ", content, 8)
    if flags & FLAG_BIG_ENDIAN:
        raise InvalidInput("this kernel is big-endian", where=path, hint="take a little-endian one")
    page_size = flags >> 1 & 3
    if page_size not in (0, 1):
        raise InvalidInput(
            f"this kernel is built for pages of {(0, 4, 16, 64)[page_size]} KiB", where=path, hint="take one for 4 KiB"
        )
    if image_size == 0 or text_offset >= 2 << 20 or image_size > 1 << 32:
        raise InvalidInput("the Image header makes no sense", where=path, hint=GIVE_IMAGE)
    return Kernel(path, content, text_offset, max(image_size, len(content)))
