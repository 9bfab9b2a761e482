"""What the host backend recorded, in the terms of the specification's events. Trust label: TOOL.

Locks, words of VM records and EL1 registers of a VM are not events of the specification; the stores that make up the
reset of a vCPU's context are one event there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bulkhead.conformance.backends.host import Event
from bulkhead.spec import events
from bulkhead.spec.plain import unpack
from bulkhead.spec.state import Kind, Record

CONTEXT_X0, CONTEXT_PC = 0, 32
"""Words of a vCPU context: x0 and the program counter."""


def _exchange(frame: int, record: Record) -> events.Event:
    """The record of a vCPU is taken away, or gets another run state."""
    if record.kind == Kind.VCPU:
        return events.SetRunState(frame, record.parent)
    return events.ClaimVcpu(frame)


PLAIN: dict[str, Callable[..., events.Event]] = {
    "SetBlockRecord": lambda block, _record: events.SetBlockRecord(block),
    "SetFrameRecord": lambda frame, _record: events.SetFrameRecord(frame),
    "ExchangeFrameRecord": lambda frame, _old, new: _exchange(frame, unpack(new)),
    "SetDebugRegister": events.SetDebugRegister,
    "SetTimerListRegister": events.SetTimerListRegister,
    "AcknowledgeInterrupt": events.AcknowledgeInterrupt,
    "EnableVirtual": lambda *words: events.EnableVirtual(words[:3], words[3]),
    "Random": events.DrawRandom,
    "FillFrameRecords": events.FillFrameRecords,
    "SetHostEntry": events.SetHostEntry,
    "SetDmaEntry": events.SetDmaEntry,
    "FillTable": events.FillTable,
    "FillVmRecords": lambda block, _first: events.FillVmRecords(block),
    "SetTableEntry": events.SetTableEntry,
    "ZeroFrame": events.ZeroFrame,
    "CleanFrame": events.CleanFrame,
    "ZeroBlock": events.ZeroBlock,
    "InvalidateInstructions": events.InvalidateInstructions,
    "Publish": events.Publish,
    "InvalidateVmPage": events.InvalidateVmPage,
    "InvalidateVm": events.InvalidateVm,
    "InvalidateHostPage": events.InvalidateHostPage,
    "InvalidateHostPageFromVm": events.InvalidateHostPageFromVm,
    "InvalidateDma": events.InvalidateDma,
    "MeasureFrame": lambda vm, a, b, c, d, frame: events.Measure(vm, (a, b, c, d), frame),
    "MeasureWords": lambda vm, _field, a, b, c, d: events.Measure(vm, (a, b, c, d), None),
}
"""Recorded event → specified event, from the operands."""
OPERANDS = {
    "SetBlockRecord": 2, "SetFrameRecord": 2, "ExchangeFrameRecord": 3, "FillFrameRecords": 1, "SetHostEntry": 2,
    "FillTable": 2, "SetTableEntry": 3, "ZeroFrame": 1, "CleanFrame": 1, "InvalidateInstructions": 0,
    "Publish": 0, "InvalidateVmPage": 2, "InvalidateVm": 1, "InvalidateHostPage": 1, "MeasureFrame": 6,
    "MeasureWords": 6, "SetDmaEntry": 2, "FillVmRecords": 2, "ZeroBlock": 1, "InvalidateHostPageFromVm": 1,
    "InvalidateDma": 1, "SetDebugRegister": 3, "SetTimerListRegister": 1, "AcknowledgeInterrupt": 0,
    "EnableVirtual": 4, "Random": 0,
}  # fmt: skip
"""Number of operands of each."""
UNSPECIFIED = {"Lock", "Unlock", "SetVmWord", "ClearVm", "ExchangeVmState", "SetException"}


@dataclass(frozen=True)
class KeepLock:
    """The ownership lock was taken and not given back: no step may end so."""


def as_specified(recorded: Sequence[Event]) -> list[events.Event | KeepLock]:
    """The specification's events, and `KeepLock`. KeyError for an effect that no call may have."""
    locks = [event.name for event in recorded if event.name in ("Lock", "Unlock")]
    return [*_translate(recorded), *([KeepLock()] if locks[-1:] == ["Lock"] else [])]


def _translate(recorded: Sequence[Event]) -> Iterator[events.Event]:
    context: dict[int, int] = {}
    for event in recorded:
        if event.name == "SetContextWord":
            frame, word, value = event.operands[:3]
            context[word] = value
            continue
        if context:
            yield events.ResetContext(frame, context[CONTEXT_PC], context[CONTEXT_X0])
            context = {}
        if event.name not in UNSPECIFIED:
            yield PLAIN[event.name](*event.operands[: OPERANDS[event.name]])
