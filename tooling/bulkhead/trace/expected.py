"""The specification's events as the steps that the machine code has to take.

Trust label: TOOL. The lowering is the one that the proof uses (`bulkhead.prove.lowering`), here with numbers in place
of terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bulkhead.errors import BulkheadError
from bulkhead.prove import isa, lowering, smt
from bulkhead.prove.exec.state import Store, TraceItem
from bulkhead.prove.lowering import BlockRecordStore, Leaf, RecordStore, Translation
from bulkhead.spec import State
from bulkhead.spec.events import Event
from bulkhead.trace.leaf import RAM, Step
from bulkhead.trace.steps import OPTIONS, SYSTEM, TABLES

_STORES = {"HOST_L2": TABLES["HOST_L2"], "DMA_L2": TABLES["DMA_L2"], "RAM": RAM}


def steps(events: Sequence[Event], state: State, registers: Translation) -> list[Step]:
    """What a step that leads away from `state` takes, from the lock to its release."""
    inside = [
        step for event in events for item in lowering.lower(event, state, registers) for step in _of(item)
    ]
    return [("lock",), *inside, ("unlock",)]


def translation(
    vttbr: int, vtcr: int, vm_vtcr: int, host_vttbr: int, host_vtcr: int, context: tuple[int, ...]
) -> Translation:
    """The registers as numbers; the first two are those with which the step begins."""
    word = smt.word
    return Translation(word(vttbr), word(vtcr), word(vm_vtcr), word(host_vttbr), word(host_vtcr), context)


def _number(term: smt.Bits) -> int:
    value = smt.constant(smt.simplify(term))
    if value is None:
        raise BulkheadError("a trace of a machine is compared with numbers", where="trace")
    return value


def _of(item: TraceItem) -> Iterator[Step]:
    """One item of the lowering; the claim of a vCPU is the exchange of its record, which follows it."""
    match item:
        case Store(region, index, value):
            yield (_STORES[region], _number(index), _number(value))
        case RecordStore(frame):
            yield (TABLES["FRAMES"], _number(frame))
        case BlockRecordStore(block):
            yield (TABLES["BLOCKS"], _number(block))
        case isa.Barrier("ISB", _):
            yield ("isb",)
        case isa.Barrier(kind, option):
            yield (f"{kind.lower()} {OPTIONS[option]}",)
        case isa.SystemInstruction(name, value) | isa.WriteSystem(name, value):
            yield (SYSTEM[name], _number(value))
        case Leaf("claim", _):
            return
        case Leaf("measure_words", operands):
            yield ("measure_words", _number(operands[0]))
        case Leaf("measure_frame", operands):
            yield ("measure_frame", _number(operands[0]), _number(operands[-1]))
        case Leaf(name, operands):
            yield (name, *map(_number, operands))
        case _:
            raise BulkheadError(f"an event is lowered to {item}, which no trace can show", where="trace")
