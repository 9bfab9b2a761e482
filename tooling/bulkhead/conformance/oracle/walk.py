"""Stage 2 walks over raw memory, as the hardware does them. Trust label: TOOL.

Source: Arm ARM DDI 0487 D8.2; the walker itself is `bulkhead.inspect.pagetable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bulkhead.conformance.backends.backend import PAGE, Layout
from bulkhead.inspect import pagetable
from bulkhead.inspect.records import VM_RECORD

HOST_LEVEL = 0
VM_LEVEL = 1
"""Start levels: 48 and 39 bits of input address."""


class Memory(Protocol):
    """Raw RAM and where things are in it."""

    @property
    def layout(self) -> Layout:
        """Where things are."""
        ...

    def physical(self, address: int, length: int) -> bytes:
        """Raw RAM."""
        ...


def words(memory: Memory) -> Callable[[int], memoryview]:
    """Reader of a page as 512 words; nothing is remembered."""
    return lambda page: memoryview(memory.physical(page, PAGE)).cast("Q")


def host(memory: Memory, address: int) -> int | None:
    """Where the host's stage 2 takes physical `address`; None if it faults."""
    return pagetable.translate(words(memory), memory.layout.host_root, HOST_LEVEL, address)


def vm(memory: Memory, slot: int, ipa: int) -> int | None:
    """Where the stage 2 of the VM in `slot` takes `ipa`; None if it faults or there is no VM."""
    state, root, *_ = VM_RECORD.unpack(
        memory.physical(memory.layout.vm_records + slot * VM_RECORD.size, VM_RECORD.size)
    )
    if state == 0 or ipa >> 39:
        return None
    return pagetable.translate(words(memory), memory.layout.ram_base + root * PAGE, VM_LEVEL, ipa)
