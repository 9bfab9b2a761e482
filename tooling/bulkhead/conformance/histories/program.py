"""Concurrent programs, and the histories that come of them. Trust label: TOOL.

The format of both on the link is that of `hypervisor-shim/payload/src/history.rs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkhead.conformance.backends.backend import REGISTERS
from bulkhead.conformance.testing import machine
from bulkhead.conformance.testing.machine import ABI, Reply, filler

ACCESSES = {"load": 1, "store": 2}
"""Accesses by the host: 8 bytes at `address`; a store writes `value`."""
CALL = 0
DELAY_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class Step:
    """A call or an access by CPU `cpu` in `round`, after `delay` turns of an empty loop.

    Round 0 is CPU 0's alone; before each further round all CPUs meet. A CPU takes its steps of a round in order.
    """

    cpu: int
    round: int
    name: str
    arguments: dict[str, int]
    delay: int = 0

    @property
    def sent(self) -> tuple[int, ...]:
        """x0 to x17."""
        if self.name in ACCESSES:
            given = [self.arguments["address"], self.arguments.get("value", 0)]
            return (*given, *map(filler, range(len(given), REGISTERS)))
        return tuple(machine.encode(machine.find(self.name), self.arguments))

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={value:#x}" for key, value in self.arguments.items())
        return f"{self.name}({inside})"

    def as_json(self) -> list[Any]:
        """For a file."""
        return [self.cpu, self.round, self.name, self.arguments, self.delay]


@dataclass(frozen=True)
class Program:
    """Steps, and the blocks that they are about besides the one that boot has split."""

    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    cpus: int


@dataclass(frozen=True)
class Event:
    """A step that was taken: registers afterwards, and its numbers in the sequence that all CPUs share.

    One that `ended` before another `began` was over by then; otherwise they overlapped.
    """

    step: Step
    registers: tuple[int, ...]
    began: int
    ended: int
    reply: Reply = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reply", self._decode())

    def _decode(self) -> Reply:
        step = self.step
        if step.name in ACCESSES:
            status = "FAULT" if self.registers[0] else "SUCCESS"
            results = {} if status == "FAULT" else {"value": self.registers[1]}
            return Reply(step.name, status, 0, results, step.sent, self.registers)
        return machine.decode(machine.find(step.name), step.sent, self.registers)

    @property
    def outcome(self) -> str:
        """The status, or how a VM exited."""
        if self.step.name == "vcpu_run" and self.reply.status == "SUCCESS":
            return next((line.name for line in ABI.exits if line.value == self.reply.results["class"]), "?")
        return self.reply.status

    def overlaps(self, other: Event) -> bool:
        """Whether neither was over when the other began."""
        return self.began < other.ended and other.began < self.ended

    def __str__(self) -> str:
        return f"CPU {self.step.cpu} {self.step}"


History = list[Event]


def encode(steps: Sequence[Step]) -> bytes:
    """The program as the payload reads it."""
    return b"".join(_encode(step) for step in steps)


def _encode(step: Step) -> bytes:
    kind = ACCESSES.get(step.name, CALL)
    count = 1 + max(number for number, value in enumerate(step.sent) if value != filler(number))
    sent = step.sent[:count]
    plan = step.cpu | step.round << 8 | kind << 16 | len(sent) << 24 | min(step.delay, DELAY_MAX) << 32
    return struct.pack(f"<{1 + len(sent)}Q", plan, *sent)


def decode(steps: Sequence[Step], data: bytes) -> History:
    """What came of the program."""
    words = iter(struct.unpack(f"<{len(data) // 8}Q", data))
    return [_decode(step, words) for step in steps]


def _decode(step: Step, words: Iterator[int]) -> Event:
    head = next(words)
    registers = list(step.sent)
    for register in range(REGISTERS):
        if head >> 40 >> register & 1:
            registers[register] = next(words)
    return Event(step, tuple(registers), head & 0xF_FFFF, head >> 20 & 0xF_FFFF)


def changed_otherwise(event: Event) -> str:
    """What a call did to registers that it must leave alone; empty if nothing."""
    if event.step.name in ACCESSES:
        return ""
    line = machine.find(event.step.name)
    try:
        machine.check_registers(line, event.step.arguments, event.step.cpu, event.reply)
    except AssertionError as error:
        return str(error)
    return ""
