"""What a machine must offer for the conformance tests.

Trust label: TOOL. A backend is a driver: it carries registers and bytes and knows no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bulkhead.errors import InvalidInput, MachineError

PAGE = 4096
BLOCK = 2 << 20
FRAMES_IN_BLOCK = BLOCK // PAGE
REGISTERS = 18
"""x0 to x17 take part in a call."""


class HostFault(MachineError):
    """The host program touched `address` and its stage 2 does not permit that.

    `esr` is the syndrome that the host saw at EL1, 0 on a backend that has none (Arm ARM DDI 0487, `ESR_EL1`).
    """

    def __init__(self, address: int, esr: int = 0) -> None:
        super().__init__(
            f"the host may not access {address:#x}", hint="only frames that the host owns are mapped"
        )
        self.address, self.esr = address, esr


class NeedsRawMemory(InvalidInput):
    """A check reads or changes memory of the engine or of a VM, and this backend is only the host's program."""

    def __init__(self, backend: str, what: str) -> None:
        super().__init__(
            f"the backend '{backend}' cannot {what}: it sees what the host sees",
            hint="mark the test with @pytest.mark.raw_memory, which leaves it out where this cannot be done",
        )


@dataclass(frozen=True)
class Layout:
    """Physical addresses of what a reader of raw memory needs; arrays are of 64-bit words. Without raw memory,
    `ram_base`, `frames`, `cpus` and `split_block` are known, and the others are 0.

    `block_records`: one word for each 2 MiB block from `ram_base`; `frame_records`: one for each 4 KiB frame;
    `host_level2`: the host's level 2 descriptors, one for each block; `dma_level2`: those of its devices;
    `host_root`: the host's level 0 table;
    `vm_records`: 64 words for each of 64 VMs; `split_block`: the block that boot has split.
    """

    ram_base: int
    frames: int
    cpus: int
    block_records: int
    frame_records: int
    host_level2: int
    dma_level2: int
    host_root: int
    vm_records: int
    split_block: int

    @property
    def blocks(self) -> int:
        """Number of 2 MiB blocks from `ram_base` to the end of RAM."""
        return self.frames // FRAMES_IN_BLOCK

    @property
    def end(self) -> int:
        """First address beyond the last frame."""
        return self.ram_base + self.frames * PAGE


class Backend(Protocol):
    """A machine with an engine at EL2 and a host program that does what it is told."""

    name: str
    layout: Layout
    raw_memory: bool
    """Whether `physical`, `poke` and `hold_lock` work; elsewhere they raise NeedsRawMemory."""
    whole_blocks: tuple[int, ...]
    """Without raw memory: blocks of the host at boot that it can give away."""

    def call(self, cpu: int, registers: Sequence[int]) -> tuple[int, ...]:
        """HVC #0 by the host on CPU `cpu` with x0 to x17; the same registers afterwards."""
        ...

    def memory(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`, loaded by the host program. Raises HostFault."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Stores by the host program at physical `address`. Raises HostFault."""
        ...

    def survey(self, address: int, step: int, count: int) -> list[bool]:
        """Whether the host can load from `address`, `address + step`, and so on, `count` times."""
        ...

    def physical(self, address: int, length: int) -> bytes:
        """Raw RAM, whoever owns it."""
        ...

    def poke(self, address: int, data: bytes) -> None:
        """Change raw RAM, whoever owns it."""
        ...

    def hold_lock(self, held: bool) -> None:
        """Take the engine's ownership lock, as another CPU in the middle of a call would, or give it back."""
        ...

    def reset(self) -> None:
        """Bring the machine to the state that boot leaves."""
        ...

    def close(self) -> None:
        """Release the machine."""
        ...
