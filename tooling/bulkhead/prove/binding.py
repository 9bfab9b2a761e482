"""How the calls are entered in machine code: which function, which argument in which register.

The handlers are Rust functions; their calling convention is not fixed by a standard, so that a changed
compiler could pass arguments otherwise. A wrong binding cannot hide an error: the proof fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bulkhead.spec import ARGUMENTS

from .exec.image import Image

ARGUMENT_BLOCK = 0xC000_0000_0000
"""Where arguments passed by reference are: a place that overlaps no region."""
BY_REFERENCE = {"vm_create": 4}
"""Call → number of arguments in registers; the others are passed as one array by reference."""


@dataclass(frozen=True)
class Binding:
    """The function of a call, its arguments by register, and those in memory behind `pointer`."""

    call: str
    symbol: str
    registers: Mapping[int, str]
    in_memory: tuple[str, ...] = ()

    @property
    def pointer(self) -> int | None:
        """The register that holds the address of the arguments in memory."""
        return len(self.registers) if self.in_memory else None


def bind(image: Image, call: str) -> Binding:
    """The binding of a call in an image; InvalidInput if its function is not there."""
    arguments = ARGUMENTS[call]
    count = BY_REFERENCE.get(call, len(arguments))
    symbol = image.function("call", call, call).name
    return Binding(call, symbol, dict(enumerate(arguments[:count])), arguments[count:])
