"""Where the shipped image keeps the specification's state: virtual addresses and word layouts.

The windows come from `bulkhead.image.memory_map` through `engine/arch/src/layout.rs`; records are
described in `bulkhead.spec.state`. This is the abstraction function, read from right to left: which
words represent a state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.spec import stage2
from bulkhead.spec.state import VM_SLOTS, Kind, State, VmWord
from bulkhead.spec.words import Truth, all_of, any_of, negate, shift_right, term

from . import smt
from .exec.image import Image
from .exec.memory import WORD, Content, Region
from .lowering import CONTEXT_MEMBERS, Translation
from .smt import Bits, Bool
from .symbolic import decided, fact, pack

LAYOUT_SOURCE = Path(__file__).resolve().parents[3] / "engine/arch/src/layout.rs"


REGION_OF = {
    "frame": "FRAMES", "block": "BLOCKS", "ram": "RAM", "host_entry": "HOST_L2", "dma_entry": "DMA_L2", "vm": "VMS",
}  # fmt: skip
"""Map of the state → region that holds it; keys and word indices are the same."""


@cache
def window(name: str) -> int:
    """Virtual address of a window of the EL2 address space."""
    found = re.search(rf"pub const {name}: u64 = (0x[0-9a-f_]+);", LAYOUT_SOURCE.read_text())
    if found is None:
        raise InvalidInput(f"the layout names no window {name}", where=LAYOUT_SOURCE)
    return int(found.group(1).replace("_", ""), 16)


def translation(image: Image) -> Translation:
    """Unknown translation registers: any values that boot may have decided, and any that are in place."""
    names = ("vttbr", "vtcr", "vm_vtcr", "host_vttbr", "host_vtcr")
    context = tuple(image.offset("VcpuContext", *member) // WORD for member in CONTEXT_MEMBERS)
    vttbr, vtcr, vm_vtcr, host_vttbr, host_vtcr = (smt.variable(name) for name in names)
    return Translation(vttbr, vtcr, vm_vtcr, host_vttbr, host_vtcr, context)


def is_reachable(state: State, index: Bits) -> Bool:
    """A word of RAM that the engine may touch: its frame is of a split block, and not the engine's own."""
    frame = shift_right(index, stage2.TABLE_SHIFT)
    kind = state.block[shift_right(frame, stage2.TABLE_SHIFT)].kind
    reachable: Truth = all_of(kind == Kind.SPLIT, negate(state.frame[frame].kind == Kind.ENGINE))
    return fact(decided(reachable))


def is_reachable_block(state: State, block: Bits) -> Bool:
    """A whole block that the engine may touch: it is not split, and not the engine's own."""
    kind = state.block[block].kind
    return fact(decided(negate(any_of(kind == Kind.SPLIT, kind == Kind.ENGINE))))


def regions(image: Image, state: State, registers: Translation) -> tuple[Region, ...]:
    """The regions of memory that a call may touch, holding the words of `state`."""
    config = state.config
    frames = term(config.frames)
    blocks = smt.shift_right(frames, stage2.TABLE_SHIFT)
    settings = [
        term(config.ram_base),
        frames,
        term(config.cpus),
        registers.host_vttbr,
        registers.host_vtcr,
        registers.vm_vtcr,
        term(config.has_dma),
    ]

    def static(name: str, words: int, content: Content, writable: bool = True) -> Region:
        base = smt.word(image.symbol(name).address)
        return Region(name, base, smt.word(words), content, writable=writable, shared=writable)

    return (
        Region(
            "FRAMES",
            smt.word(window("FRAMES")),
            frames,
            Content(lambda index: pack(state.frame[index])),
        ),
        Region("BLOCKS", smt.word(window("BLOCKS")), blocks, Content(lambda index: pack(state.block[index]))),
        Region(
            "HOST_L2",
            smt.word(window("HOST_L2")),
            blocks,
            Content(lambda index: term(state.host_entry[index])),
        ),
        Region(
            "DMA_L2",
            smt.word(window("DMA_L2")),
            blocks,
            Content(lambda index: term(state.dma_entry[index])),
        ),
        Region(
            "RAM",
            smt.simplify(smt.word(window("RAM")) + term(config.ram_base)),
            frames << stage2.TABLE_SHIFT,
            Content(lambda index: term(state.ram[index])),
            allowed=lambda index: is_reachable(state, index),
        ),
        static("VMS", VM_SLOTS * VmWord.COUNT, Content(lambda index: term(state.vm[index]))),
        static("CONFIG", len(settings), Content(table_of(settings)), writable=False),
    )


def table_of(words: list[Bits]) -> Callable[[Bits], Bits]:
    """Index → the word at that place; the last one for all others."""

    def word(index: Bits) -> Bits:
        result = words[-1]
        for position, value in enumerate(words[:-1]):
            result = smt.choose(index == position, value, result)
        return result

    return word


def argument_region(address: int, words: list[Bits]) -> Region:
    """Arguments that the caller passes by reference, read-only."""
    return Region(
        "ARGUMENTS",
        smt.word(address),
        smt.word(len(words)),
        Content(table_of(words)),
        writable=False,
        shared=False,
    )
