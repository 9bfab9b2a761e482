"""Physical RAM of a stopped machine. Trust label: TOOL."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from bulkhead.errors import InvalidInput

PAGE = 4096
CHUNK = 4 << 20


class RamSnapshot:
    """RAM at `base`, `size` bytes, read from file descriptor `fd` (its offset 0 is `base`).

    The machine must stay stopped while this is used. Reads go through the file, not a mapping: reading a hole
    of a memory file costs nothing, touching it through a mapping would allocate it.
    """

    def __init__(self, fd: int, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self._fd = fd
        self._words: dict[int, memoryview] = {}

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`. InvalidInput if any of them is not RAM."""
        offset = address - self.base
        if offset < 0 or length < 0 or offset + length > self.size:
            raise InvalidInput(
                f"{length} bytes at {address:#x} are not RAM", hint=f"RAM starts at {self.base:#x}"
            )
        return os.pread(self._fd, length, offset)

    def words(self, page: int) -> memoryview:
        """The 512 64-bit words of the page at physical address `page` (remembered: tables are read often)."""
        if page not in self._words:
            self._words[page] = memoryview(self.read(page, PAGE)).cast("Q")
        return self._words[page]

    def word(self, address: int) -> int:
        """The 64-bit word at an aligned physical address."""
        return int(self.words(address & -PAGE)[(address % PAGE) // 8])

    def is_zero(self, page: int) -> bool:
        """Whether the whole page at physical address `page` is zero."""
        return self.read(page, PAGE).count(0) == PAGE

    def find(self, pattern: bytes) -> list[int]:
        """Physical addresses of all occurrences of `pattern`, overlapping ones included.

        InvalidInput for a pattern of zeros only: the parts of RAM that were never written are not searched.
        """
        if not pattern.strip(b"\0"):
            raise InvalidInput("a pattern of zeros is everywhere", hint="search for something else")
        overlap = len(pattern) - 1
        found: set[int] = set()
        for start, end in self._extents():
            for position in range(max(0, start - overlap), end, CHUNK):
                data = os.pread(self._fd, min(CHUNK, end - position) + overlap, position)
                hit = data.find(pattern)
                while hit >= 0:
                    found.add(self.base + position + hit)
                    hit = data.find(pattern, hit + 1)
        return sorted(found)

    def _extents(self) -> Iterator[tuple[int, int]]:
        """Ranges of the file that hold data; the rest has never been written and reads as zero."""
        position = 0
        while position < self.size:
            try:
                start = os.lseek(self._fd, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            position = os.lseek(self._fd, start, os.SEEK_HOLE)
            yield start, position
