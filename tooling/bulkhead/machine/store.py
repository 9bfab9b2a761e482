"""The image store: guest files handed to the hypervisor in the machine's initrd.

Trust label: TOOL. Format (little-endian): "BHSTORE1", u32 count, u32 0, then count entries of name (24 bytes,
zero padded), u64 offset, u64 size; payloads start at multiples of 4096, offsets count from the start of the
store.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import IO

from bulkhead.errors import InvalidInput

MAGIC = b"BHSTORE1"
HEADER = struct.Struct("<8sII")
ENTRY = struct.Struct("<24sQQ")
PAGE = 4096


def _aligned(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


def write_store(stream: IO[bytes], files: Mapping[str, bytes]) -> int:
    """Write a store with `files` (name → content); its size. InvalidInput for a name that does not fit."""
    offset = _aligned(HEADER.size + ENTRY.size * len(files))
    table = [HEADER.pack(MAGIC, len(files), 0)]
    for name, content in files.items():
        encoded = name.encode()
        if not 0 < len(encoded) < 24 or b"\0" in encoded:
            raise InvalidInput(
                f"'{name}' cannot name a file of the image store", hint="use 1 to 23 bytes, no zero"
            )
        table.append(ENTRY.pack(encoded, offset, len(content)))
        offset = _aligned(offset + len(content))
    written = stream.write(b"".join(table))
    for content in files.values():
        written += stream.write(bytes(_aligned(written) - written))
        written += stream.write(content)
    return written + stream.write(bytes(_aligned(written) - written))


def read_store(store: bytes) -> dict[str, bytes]:
    """The files of a store. InvalidInput if it is damaged."""
    if len(store) < HEADER.size:
        raise InvalidInput("the image store is too short")
    magic, count, zero = HEADER.unpack_from(store)
    if magic != MAGIC or zero != 0 or HEADER.size + ENTRY.size * count > len(store):
        raise InvalidInput("this is not an image store")
    files = {}
    for index in range(count):
        name, offset, size = ENTRY.unpack_from(store, HEADER.size + ENTRY.size * index)
        if offset % PAGE or offset < HEADER.size or offset + size > len(store) or not name.rstrip(b"\0"):
            raise InvalidInput(f"entry {index} of the image store is none")
        files[name.rstrip(b"\0").decode()] = store[offset : offset + size]
    return files
