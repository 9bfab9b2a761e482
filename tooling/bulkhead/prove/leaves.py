"""The contracts of the leaf functions, proved on their own machine code.

The leaves are loops with a fixed number of rounds, so all rounds are explored: what is compared is the complete list
of their stores, cache operations and barriers. They may touch one frame, wherever it is, and nothing else; that it
exists and may be touched is the callers' obligation. The measuring leaves are not among them
(`contracts.MEASURING`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from bulkhead.spec import stage2
from bulkhead.spec.state import HOST, VmWord

from . import isa, layout, smt
from .exec.errors import ProofFailed
from .exec.explore import Explorer, Summary
from .exec.image import Image
from .exec.memory import Content, Region
from .exec.solver import Solver, Statistics
from .exec.state import Environment, MachineState, Store, TraceItem
from .lowering import SY, dsb
from .smt import Bits
from .symbolic import pack

CTR_EL0 = (3, 3, 0, 0, 1)
DC_CIVAC = (1, 3, 7, 14, 1)
WORDS = stage2.TABLE_ENTRIES


@dataclass
class Kept:
    """What the proof of one contract covered."""

    leaf: str
    summary: Summary = field(default_factory=Summary)
    statistics: Statistics = field(default_factory=Statistics)


@dataclass(frozen=True)
class Setting:
    """One way to call a leaf: its arguments, the frame it may touch, and the trace that it has to leave."""

    arguments: Mapping[int, Bits]
    base: Bits
    trace: list[TraceItem]
    system_registers: Mapping[isa.SystemName, Bits] = field(default_factory=dict)
    words: int = WORDS
    result: Bits | None = None


def frame_word(index: int) -> Bits:
    """What a word of the frame holds before the call."""
    return smt.function("frame_content", 64, 64)(smt.word(index))


def word_stores(value: Callable[[int], Bits]) -> list[TraceItem]:
    """A store to each of 512 words, in ascending order."""
    return [Store("FRAME", smt.word(index), smt.simplify(value(index))) for index in range(WORDS)]


def in_ram_window(address: Bits) -> Bits:
    """Where the engine sees a physical address."""
    return smt.simplify(address + layout.window("RAM"))


def zero_frame() -> list[Setting]:
    """Zero in each word."""
    address = smt.variable("address")
    return [Setting({0: address}, in_ram_window(address), word_stores(lambda _: smt.word(0)))]


def clean_frame() -> list[Setting]:
    """For every line size that CTR_EL0.DminLine can say: each line of the frame, then DSB SY."""
    address = smt.variable("address")
    base = in_ram_window(address)
    settings = []
    for minimum in range(16):
        lines = range(0, stage2.FRAME_SIZE, 4 << minimum)
        trace: list[TraceItem] = [
            isa.SystemInstruction(DC_CIVAC, smt.simplify(base + line)) for line in lines
        ]
        cache_type = smt.concat(smt.variable("high", 44), smt.word(minimum, 4), smt.variable("low", 16))
        settings.append(Setting({0: address}, base, [*trace, dsb(SY)], {CTR_EL0: cache_type}))
    return settings


def fill_host_table() -> list[Setting]:
    """The page descriptors of 512 consecutive frames from the address in x1."""
    address, first = smt.variable("address"), smt.variable("first")
    stores = word_stores(lambda index: (first + stage2.FRAME_SIZE * index) | stage2.PAGE)
    return [Setting({0: address, 1: first}, in_ram_window(address), stores)]


def fill_frame_records() -> list[Setting]:
    """HOST in the 512 records of a block."""
    block = smt.variable("block")
    base = smt.simplify((block << (stage2.TABLE_SHIFT + 3)) + layout.window("FRAMES"))
    return [Setting({0: block}, base, word_stores(lambda _: pack(HOST)))]


def table_is_empty() -> list[Setting]:
    """No store; 1 exactly if bit 0 of all words is zero."""
    address = smt.variable("address")
    empty = smt.both(*(frame_word(index) & 1 == 0 for index in range(WORDS)))
    result = smt.choose(empty, smt.word(1), smt.word(0))
    return [Setting({0: address}, in_ram_window(address), [], result=result)]


def clear_vm() -> list[Setting]:
    """Zero in each of 64 words, the state of the VM last."""
    record = smt.variable("record")
    stores: list[TraceItem] = [Store("FRAME", smt.word(index), smt.word(0)) for index in range(63, -1, -1)]
    return [Setting({0: record}, record, stores, words=VmWord.COUNT)]


LEAVES: Mapping[str, Callable[[], list[Setting]]] = {
    "bulkhead_zero_frame": zero_frame,
    "bulkhead_clean_frame": clean_frame,
    "bulkhead_fill_table": fill_host_table,
    "bulkhead_fill_frame_records": fill_frame_records,
    "bulkhead_table_is_empty": table_is_empty,
    "bulkhead_clear_vm": clear_vm,
}
"""Leaves whose contracts are proved, with all ways to call them."""


def prove(image: Image, leaf: str) -> Kept:
    """The leaf does exactly what its contract says; ProofFailed if not."""
    kept = Kept(leaf)
    unknown = smt.function("frame_content", 64, 64)
    for setting in LEAVES[leaf]():
        frame = Region("FRAME", setting.base, smt.word(setting.words), Content(unknown))
        solver = Solver(kept.statistics)
        environment = Environment(image, solver, (frame,), setting.system_registers, known_indices=None)
        explorer = Explorer(environment, {})
        explorer.summary = kept.summary
        explorer.run(leaf, setting.arguments, partial(compare, setting))
    return kept


def compare(setting: Setting, machine: MachineState) -> None:
    """The machine's result and its trace, item by item, are the wanted ones."""
    wanted = setting.trace
    if setting.result is not None:
        machine.environment.solver.prove(machine.x[0] == setting.result, "x0 is not the result", machine.pc)
    done = [item for item in machine.trace if not isinstance(item, isa.ReadSystem)]
    if len(done) != len(wanted):
        raise machine.failure(f"{len(done)} effects instead of {len(wanted)}")
    for number, (mine, theirs) in enumerate(zip(done, wanted, strict=True)):
        match mine, theirs:
            case Store(region, index, value), Store(other, other_index, other_value) if region == other:
                same = smt.both(index == other_index, value == other_value)
            case isa.SystemInstruction(name, operand), isa.SystemInstruction(other_name, other_operand):
                same = smt.both(smt.truth(name == other_name), operand == other_operand)
            case isa.Barrier(), isa.Barrier():
                same = smt.truth(mine == theirs)
            case _:
                raise ProofFailed(f"effect {number} is {mine}, its contract says {theirs}", machine.pc)
        machine.environment.solver.prove(same, f"effect {number} is not that of the contract", machine.pc)
