"""Which source lines each instruction of the engine belongs to, inlining included.

Trust label: TOOL. Sources: DWARF 5 sections 6.2 (line tables) and 3.3.8 (inlined subroutines), read by pyelftools. An
instruction belongs to the line it was compiled from, and to the lines of the calls through which that was inlined.
Assembly files have no line tables: there each instruction counts as a line, named by the label before it.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from elftools.dwarf.ranges import RangeEntry
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from bulkhead.inspect.symbols import Symbols
from bulkhead.provision.paths import REPOSITORY

ENGINE = REPOSITORY / "engine"
CRATES = ("arch/src/", "core/src/", "image/src/")
ASSEMBLY = ("arch/src/vectors.S", "arch/src/fp.S", "image/src/start.rs")
"""Files whose instructions have no line table, with what they include."""
VECTORS, VECTOR_INSTRUCTIONS = ("bulkhead_host_vectors", "bulkhead_vm_vectors"), 32
"""Labels of vector tables; a vector, which is a macro, counts as one line."""


@dataclass(frozen=True, order=True)
class Place:
    """A line of a source file (below `engine/`); in assembly the line of a label, and which instruction behind it."""

    file: str
    line: int
    instruction: int = -1

    def __str__(self) -> str:
        behind = f" (instruction {self.instruction})" if self.instruction >= 0 else ""
        return f"engine/{self.file}:{self.line}{behind}"


@dataclass(frozen=True)
class _Inlined:
    """A range of addresses that is the body of a call at `place`; `depth` below the function that was compiled."""

    start: int
    end: int
    depth: int
    place: Place


class Sources:
    """The places of one ELF file's instructions."""

    def __init__(self, elf: Path) -> None:
        self._elf = elf
        self._symbols = Symbols(elf)
        self._code, inlined, self._columns = self._read()
        self._calls: dict[int, list[_Inlined]] = {}
        for one in inlined:
            for address in range(one.start, one.end, 4):
                self._calls.setdefault(address, []).append(one)

    def is_code(self, address: int) -> bool:
        """Whether an instruction is there, and not a literal or padding (mapping symbols, AAELF64 5.5.5)."""
        index = bisect.bisect_right(self._code, (address, "z")) - 1
        return index < 0 or self._code[index][1] == "x"

    def places(self, address: int) -> list[Place]:
        """The lines that the instruction belongs to, the innermost first; those of other people's crates left out."""
        innermost = self._symbols.line(address)
        found = [] if innermost is None or not innermost.line else [Place(innermost.file, innermost.line)]
        chain = sorted(self._calls.get(address, ()), key=lambda one: -one.depth)
        found += [one.place for one in chain]
        own = [one for one in found if one.file.startswith(CRATES)]
        if own or innermost is not None:
            return own
        assembly = self._assembly(address)
        return [assembly] if assembly else []

    def origin(self, address: int) -> tuple[int, ...]:
        """Row of the line table: equal for copies of what was written once."""
        index = bisect.bisect_right(self._columns, (address + 1,)) - 1
        return self._columns[index][1:] if index >= 0 else ()

    def function(self, address: int) -> str:
        """The symbol that contains the instruction."""
        symbol = self._symbols.at(address)
        return symbol.name if symbol else ""

    def _assembly(self, address: int) -> Place | None:
        label = self._symbols.at(address)
        if label is None or label.size or label.name not in self._labels:
            return None
        file, line = self._labels[label.name]
        number = (address - label.address) // 4
        return Place(file, line, number - number % VECTOR_INSTRUCTIONS if label.name in VECTORS else number)

    @cached_property
    def _labels(self) -> dict[str, tuple[str, int]]:
        """Label → file and line of its definition."""
        found: dict[str, tuple[str, int]] = {}
        for file in ASSEMBLY:
            for number, text in enumerate((ENGINE / file).read_text().splitlines(), 1):
                label = re.match(r'\s*"?([A-Za-z_]\w*):', text) or re.match(r"\s*vm_exit\s+(\w+),", text)
                if label:
                    found.setdefault(label[1], (file, number))
        return found

    def _read(self) -> tuple[list[tuple[int, str]], list[_Inlined], list[tuple[int, ...]]]:
        """Mapping symbols, inlined calls, and (address, unit, file, line, column) of the line tables, by address."""
        with self._elf.open("rb") as stream:
            elf = ELFFile(stream)
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            code = sorted(
                (one["st_value"], one.name[1]) for one in table.iter_symbols() if one.name[:2] in ("$x", "$d")
            )
            dwarf = elf.get_dwarf_info()
            units = [_Unit(dwarf, unit) for unit in dwarf.iter_CUs()]
            inlined = [one for unit in units for one in unit.inlined()]
            rows = sorted(row for number, unit in enumerate(units) for row in unit.rows(number))
        return code, inlined, rows


class _Unit:
    """One compilation unit of the debug information."""

    def __init__(self, dwarf: Any, unit: Any) -> None:
        self._dwarf, self._unit = dwarf, unit
        self._program = dwarf.line_program_for_CU(unit)
        self._ranges = dwarf.range_lists()
        top = unit.get_top_DIE()
        self._base = top.attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in top.attributes else 0

    def inlined(self) -> Iterator[_Inlined]:
        """All bodies of inlined calls."""
        yield from self._below(self._unit.get_top_DIE(), 0)

    def rows(self, number: int) -> Iterator[tuple[int, ...]]:
        """(address, `number`, file, line, column)."""
        for step in self._program.get_entries() if self._program is not None else ():
            state = step.state
            if state is not None and not state.end_sequence:
                yield state.address, number, state.file, state.line, state.column

    def _below(self, parent: Any, depth: int) -> Iterator[_Inlined]:
        for entry in parent.iter_children():
            inner = depth
            if entry.tag == "DW_TAG_inlined_subroutine":
                inner = depth + 1
                call = Place(self._file(entry.attributes["DW_AT_call_file"].value), self._line(entry))
                for start, end in self._extent(entry):
                    yield _Inlined(start, end, inner, call)
            if entry.has_children:
                yield from self._below(entry, inner)

    @staticmethod
    def _line(entry: Any) -> int:
        return int(entry.attributes["DW_AT_call_line"].value) if "DW_AT_call_line" in entry.attributes else 0

    def _extent(self, entry: Any) -> Iterator[tuple[int, int]]:
        attributes = entry.attributes
        if "DW_AT_low_pc" in attributes:
            low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
            yield low, high.value if high.form == "DW_FORM_addr" else low + high.value
            return
        if "DW_AT_ranges" not in attributes:
            return
        base = self._base
        for one in self._ranges.get_range_list_at_offset(attributes["DW_AT_ranges"].value, cu=self._unit):
            if isinstance(one, RangeEntry):
                offset = 0 if one.is_absolute else base
                if one.end_offset > one.begin_offset:
                    yield offset + one.begin_offset, offset + one.end_offset
            else:
                base = one.base_address

    def _file(self, number: int) -> str:
        version, files = self._program["version"], self._program["file_entry"]
        entry = files[number if version >= 5 else number - 1]
        directories = self._program["include_directory"]
        index = entry.dir_index if version >= 5 else entry.dir_index - 1
        directory = directories[index].decode() if index >= 0 else ""
        name = str(entry.name.decode())
        return name if not directory or name.startswith("/") else f"{directory}/{name}"
