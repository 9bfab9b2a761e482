"""What the host backend recorded, in the terms of the specification's events. Trust label: TOOL.

Locks and words of VM records are not events of the specification; the stores that make up the reset of a vCPU's
context are one event there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bulkhead.conformance.host import Event
from bulkhead.spec import events

CONTEXT_X0, CONTEXT_PC = 0, 32
"""Words of a vCPU context: x0 and the program counter."""

PLAIN: dict[str, Callable[..., events.Event]] = {
    "SetBlockRecord": lambda block, _record: events.SetBlockRecord(block),
    "SetFrameRecord": lambda frame, _record: events.SetFrameRecord(frame),
    "ExchangeFrameRecord": lambda frame, _old, _new: events.ClaimVcpu(frame),
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
    "InvalidateDma": 1,
}  # fmt: skip
"""Number of operands of each."""
UNSPECIFIED = {"Lock", "Unlock", "SetVmWord", "ClearVm"}


def as_specified(recorded: Sequence[Event]) -> list[events.Event]:
    """The specification's events. KeyError for an effect that no call may have."""
    return list(_translate(recorded))


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
