"""RAM as the specification says that it is: the words behind the maps of its state, where the engine keeps them.

Trust label: TOOL. Only the specification writes here, so that a comparison with the machine is one of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.conformance.backends.backend import BLOCK, FRAMES_IN_BLOCK, PAGE, Layout
from bulkhead.conformance.oracle.snapshot import FIELD_NAMES, WORD
from bulkhead.inspect.records import VM_SLOTS, VM_WORDS, FrameRecord
from bulkhead.spec import Config, Outcome, State, context, plain
from bulkhead.spec.state import Kind

Range = tuple[int, int]
"""Consecutive words of RAM: index of the first, counted from frame 0, and how many."""
WORDS_IN_BLOCK, WORDS_IN_FRAME = BLOCK // WORD, PAGE // WORD
_RECORDS = ("block", "frame")


class Image:
    """Words that read as zero until they are written."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.words = plain.fresh_memory(layout.frames * PAGE)
        self.bytes = self.words.cast("B")
        arrays = {
            "block": (layout.block_records, layout.blocks),
            "frame": (layout.frame_records, layout.frames),
            "host_entry": (layout.host_level2, layout.blocks),
            "dma_entry": (layout.dma_level2, layout.blocks),
            "vm": (layout.vm_records, VM_SLOTS * VM_WORDS),
        }
        self.arrays: dict[str, Range] = {
            name: ((address - layout.ram_base) // WORD, count) for name, (address, count) in arrays.items()
        }
        """Map of the state → where its words are; those of `ram` are all."""

    def state(self, has_dma: int) -> State:
        """The state of these words; it changes with them."""
        layout = self.layout

        def part(name: str) -> memoryview:
            first, count = self.arrays[name]
            return self.words[first : first + count]

        return plain.from_grounds(
            Config(layout.ram_base, layout.frames, layout.cpus, has_dma),
            block=plain.Records(part("block")),
            frame=plain.Records(part("frame")),
            ram=plain.Words(self.words),
            host_entry=plain.Words(part("host_entry")),
            dma_entry=plain.Words(part("dma_entry")),
            vm=plain.Words(part("vm")),
        )

    def put(self, first: int, data: bytes) -> None:
        """Words become known otherwise than by the specification."""
        self.bytes[first * WORD : first * WORD + len(data)] = data

    def part(self, first: int, count: int) -> memoryview:
        """The bytes of some words."""
        return self.bytes[first * WORD : (first + count) * WORD]

    def blocks(self, *kinds: Kind) -> list[int]:
        """Numbers of the blocks of these kinds."""
        first, count = self.arrays["block"]
        return [number for number in range(count) if self.words[first + number] & 15 in kinds]

    def changes(self, outcome: Outcome) -> Iterator[Range]:
        """Where a step writes, if what it specifies has not been merged yet."""
        if outcome.success is not True:
            return
        for name in plain.MAPS:
            first = self.arrays[name][0] if name in self.arrays else 0
            layer: plain.PlainMap[object] = getattr(outcome.committed, name)
            for span in layer.spans():
                yield first + span.keys.start, len(span.keys)
            for key in layer.changed():
                yield first + key, 1

    def tell(self, index: int, word: int) -> str:
        """A word of RAM with a value, for people."""
        name, key = self._place(index)
        return f"{self._name(name, key)} is {self.value(index, word)}"

    def value(self, index: int, word: int) -> str:
        """The value of a word of RAM, for people."""
        if self._place(index)[0] in _RECORDS:
            try:
                return str(FrameRecord.decode(word))
            except ValueError:
                return f"{word:#x}, which is no record"
        return f"{word:#x}"

    def _place(self, index: int) -> tuple[str, int]:
        """Map and key."""
        for name, (first, count) in self.arrays.items():
            if 0 <= index - first < count:
                return name, index - first
        return "ram", index

    def _is_context(self, frame: int) -> bool:
        """Whether a frame is a vCPU's."""
        block, own = self.arrays["block"][0] + frame // FRAMES_IN_BLOCK, self.arrays["frame"][0] + frame
        return self.words[block] & 15 == Kind.SPLIT and self.words[own] & 15 == Kind.VCPU

    def _name(self, name: str, key: int) -> str:
        base = self.layout.ram_base
        if name == "vm":
            slot, position = divmod(key, VM_WORDS)
            return f"{FIELD_NAMES.get(position, f'word {position}')} of VM {slot}"
        if name == "ram" and self._is_context(key // WORDS_IN_FRAME):
            where = base + key // WORDS_IN_FRAME * PAGE
            return f"{context.name_of(key % WORDS_IN_FRAME)} of the vCPU at {where:#x}"
        if name == "ram":
            return f"word {key % WORDS_IN_FRAME} of frame {base + key // WORDS_IN_FRAME * PAGE:#x}"
        if name == "frame":
            return f"record of frame {base + key * PAGE:#x}"
        what = {
            "block": "record",
            "host_entry": "host's level 2 entry",
            "dma_entry": "devices' level 2 entry",
        }[name]
        return f"{what} of block {base + key * BLOCK:#x}"
