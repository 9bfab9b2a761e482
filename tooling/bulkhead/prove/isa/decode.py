"""The decoder: from an instruction word to the one diagram that matches it."""

from __future__ import annotations

from functools import lru_cache

from . import atomics, branches, data_immediate, data_register, loads_stores
from .diagram import Encoding, Operands
from .machine import Flow, Machine, UnknownInstruction

ENCODINGS: tuple[Encoding, ...] = tuple(
    encoding
    for module in (data_immediate, branches, loads_stores, atomics, data_register)
    for encoding in module.GROUP.encodings
)
"""Every diagram of the subset. No two of them match the same word."""


@lru_cache(maxsize=65536)
def decode(instruction: int) -> Encoding:
    """The diagram of an instruction word; UnknownInstruction if there is none."""
    matching = [encoding for encoding in ENCODINGS if encoding.matches(instruction)]
    if len(matching) != 1:
        raise UnknownInstruction(instruction)
    return matching[0]


def step(machine: Machine, instruction: int) -> Flow:
    """Carry out one instruction at `machine.pc` and say where control goes.

    The caller advances the program counter. Raises UnknownInstruction for a word outside the subset.
    """
    encoding = decode(instruction)
    return encoding.semantics(machine, Operands(instruction, encoding.layout))
