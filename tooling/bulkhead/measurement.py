"""The launch measurement of a VM, computed independently of the engine. Trust label: STATEMENT.

M starts as 32 zero bytes; each step makes it SHA-256(M ‖ four little-endian words ‖ data) (FIPS 180-4). The steps and
their words are those that `engine/core/src/measure.rs` documents.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = ("CREATE", "RANGE", "PAGE", "VCPU", "ENTRY")
CREATE, RANGE, PAGE, VCPU, ENTRY = range(1, 6)
RANGES = 4


@dataclass(frozen=True)
class Step:
    """Four words, the SHA-256 of the data behind them (none: empty), and what the measurement is then."""

    words: tuple[int, ...]
    data: str
    digest: bytes

    def __str__(self) -> str:
        tag, *values = self.words
        return " ".join([f"{NAMES[tag - 1]:6}", *map(hex, values), self.data, "->", self.digest.hex()])


class Measurement:
    """The measurement of a VM that is being built."""

    def __init__(self) -> None:
        self.digest = bytes(32)
        self.steps: list[Step] = []

    def _step(self, *words: int, data: bytes = b"") -> None:
        self.digest = hashlib.sha256(self.digest + struct.pack("<4Q", *words) + data).digest()
        self.steps.append(Step(words, hashlib.sha256(data).hexdigest() if data else "", self.digest))

    def create(self, vcpus: int, flags: int, ram: Sequence[tuple[int, int]]) -> None:
        """`vm_create` with RAM ranges (base, bytes), unused ones left out."""
        self._step(CREATE, vcpus, flags, 0)
        padded = [*ram, *[(0, 0)] * (RANGES - len(ram))]
        for number, (base, size) in enumerate(padded):
            self._step(RANGE, base, size, number)

    def page(self, ipa: int, content: bytes) -> None:
        """`map` with mode 1."""
        self._step(PAGE, ipa, 0, 0, data=content)

    def vcpu(self, index: int) -> None:
        """`vcpu_create`."""
        self._step(VCPU, index, 0, 0)

    def entry(self, entry: int, context: int) -> None:
        """`vcpu_set_entry`."""
        self._step(ENTRY, entry, context, 0)

    @property
    def words(self) -> tuple[int, int, int, int]:
        """As the four results of `activate`."""
        first, second, third, fourth = struct.unpack("<4Q", self.digest)
        return first, second, third, fourth
