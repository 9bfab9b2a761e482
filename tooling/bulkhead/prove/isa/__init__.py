"""The A64 integer instructions that the engine's image uses: decoder and semantics on bit-vectors.

Written from the encoding diagrams and the pseudocode of the Arm Architecture Reference Manual for
A-profile (DDI 0487), one module per group of chapter C4.1. An encoding that no diagram here matches
raises `UnknownInstruction`: it is never taken for a no-op. System instructions are events whose meaning
the specification states. `tests/proofs/test_isa.py` compares every diagram with an independent
implementation.
"""

from .decode import ENCODINGS, decode, step
from .events import (
    Atomic,
    Barrier,
    Event,
    ExceptionCall,
    Hint,
    ReadSystem,
    SystemInstruction,
    SystemName,
    WritePstate,
    WriteSystem,
)
from .machine import Branch, Flags, Flow, Indirect, Jump, Machine, Return, UnknownInstruction

__all__ = [
    "ENCODINGS",
    "Atomic",
    "Barrier",
    "Branch",
    "Event",
    "ExceptionCall",
    "Flags",
    "Flow",
    "Hint",
    "Indirect",
    "Jump",
    "Machine",
    "ReadSystem",
    "Return",
    "SystemInstruction",
    "SystemName",
    "UnknownInstruction",
    "WritePstate",
    "WriteSystem",
    "decode",
    "step",
]
