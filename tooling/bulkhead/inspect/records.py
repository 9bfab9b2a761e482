"""Decoding the engine's ownership records and VM records.

Trust label: TOOL. The layout is declared in `engine/core` (owner, vm); tests compare it with running engines.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from bulkhead.spec.plain import unpack
from bulkhead.spec.state import VM_SLOTS, Kind, Shared, VmState

__all__ = [
    "OF_A_VM",
    "VM_RECORD",
    "VM_SLOTS",
    "VM_WORDS",
    "FrameRecord",
    "Kind",
    "Shared",
    "VmRecord",
    "VmState",
]

VM_WORDS = 64
VM_RECORD = struct.Struct(f"<{VM_WORDS}Q")


# Kinds that belong to a VM, and to the host; `SPLIT` says nothing.
OF_A_VM = frozenset({Kind.VM_PAGE, Kind.VM_TABLE, Kind.VCPU})
OF_THE_HOST = frozenset({Kind.HOST, Kind.UNCLEARED, Kind.DMA})


@dataclass(frozen=True)
class FrameRecord:
    """The record of a frame or a block: `slot` is an entry or vCPU index, `parent` a frame, a block or a run state."""

    kind: Kind
    level: int = 0
    vm: int = 0
    slot: int = 0
    parent: int = 0
    shared: Shared = Shared.PRIVATE

    @classmethod
    @lru_cache(maxsize=1 << 16)  # most frames of a machine are in one of a few states
    def decode(cls, word: int) -> FrameRecord:
        """The record in a 64-bit word. ValueError if the kind does not exist or a reserved bit is set."""
        kind, level, vm, slot, parent, shared = (int(value) for value in unpack(word))  # type: ignore[arg-type]
        return cls(Kind(kind), level, vm, slot, parent, Shared(shared))

    @property
    def owner(self) -> str:
        """Who owns the frame: "engine", "host" or "vm N"."""
        if self.kind in OF_A_VM:
            return f"vm {self.vm}"
        return "host" if self.kind in OF_THE_HOST else "engine"

    @property
    def is_hosts(self) -> bool:
        """Whether the host may reach the frame: its own, or a shared page that it has accepted."""
        return self.kind in (Kind.HOST, Kind.DMA) or self.shared == Shared.ACCEPTED


@dataclass(frozen=True)
class VmRecord:
    """One VM slot. Frames are indices; `vcpus` has the frame of each vCPU or None."""

    state: VmState
    root: int
    vcpu_count: int
    flags: int
    ram: tuple[tuple[int, int], ...]
    measurement: bytes
    vcpus: tuple[int | None, ...]

    @classmethod
    def decode(cls, data: bytes) -> VmRecord:
        """The record in 512 bytes. ValueError if the state does not exist."""
        words = VM_RECORD.unpack(data)
        ranges = zip(words[4:12:2], words[5:12:2], strict=True)
        return cls(
            VmState(words[0]), words[1], words[2], words[3],
            tuple(one for one in ranges if one[1]),
            struct.pack("<4Q", *words[12:16]),
            tuple(word - 1 if word else None for word in words[16:24]),
        )  # fmt: skip
