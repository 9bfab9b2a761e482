"""Initial RAM disks: archives in the `newc` form of cpio, the same bytes for the same entries. Trust label: TOOL.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Device nodes are written without root's
rights, owner and times are fixed, entries are sorted by name.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from bulkhead.errors import InvalidInput

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file, directory, link or device node; `mode` includes the type bits of stat(2)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    """A directory, mode 755."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> Entry:
    """An executable file, mode 755."""
    return Entry(name, stat.S_IFREG | 0o755, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link to `target`."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device node, mode 600."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive. Raises InvalidInput if two entries have one name or a name is not relative."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    names = [entry.name for entry in ordered]
    if len(set(names)) != len(names) or any(name.startswith("/") for name in names):
        raise InvalidInput("names in an archive must be relative and different", where=", ".join(names))
    records = [_record(number, entry) for number, entry in enumerate(ordered, start=1)]
    return b"".join([*records, _record(0, Entry(_TRAILER, 0))])


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
