"""Names, types of places and source lines of an ELF file, from its symbol table and DWARF.

Trust label: TOOL. Sources: System V gABI (ELF), DWARF 5 section 6.2 (line tables), read by pyelftools.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.dwarf.lineprogram import LineProgram
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from bulkhead.errors import InvalidInput

LABEL_REACH = 0x800  # bytes behind a label of no size that are told by its name: a vector table


@dataclass(frozen=True, order=True)
class Symbol:
    """A named place: `address` as linked, `size` in bytes (0: unknown)."""

    address: int
    size: int
    name: str
    is_function: bool


@dataclass(frozen=True)
class SourceLine:
    """A line of source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Symbols:
    """The symbols and lines of one ELF file; line tables are read when first asked for."""

    def __init__(self, path: Path) -> None:
        """InvalidInput if `path` is no ELF file."""
        self.path = path
        try:
            with path.open("rb") as stream:
                self.all = sorted(self._read(ELFFile(stream)))
        except (OSError, ELFError) as error:
            raise InvalidInput(
                f"no symbols can be read: {error}", where=path, hint="name the ELF file"
            ) from error
        self._addresses = [symbol.address for symbol in self.all]

    @staticmethod
    def _read(elf: ELFFile) -> list[Symbol]:
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return []
        kinds = {"STT_FUNC": True, "STT_OBJECT": False, "STT_NOTYPE": False}
        return [
            Symbol(one["st_value"], one["st_size"], demangle(one.name), kinds[one["st_info"]["type"]])
            for one in table.iter_symbols()
            if one["st_info"]["type"] in kinds
            and one.name
            and not one.name.startswith("$")
            and one["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
        ]

    def address(self, name: str) -> int:
        """Linked address of the symbol with this full name or last path part (InvalidInput)."""
        for symbol in self.all:
            if symbol.name == name or symbol.name.rsplit("::", 1)[-1] == name:
                return symbol.address
        raise InvalidInput(f"there is no symbol {name}", where=self.path, hint="build the image again")

    def at(self, address: int) -> Symbol | None:
        """The symbol that contains `address`, or else a label of no size shortly before it."""
        index = bisect.bisect_right(self._addresses, address) - 1
        for symbol in reversed(self.all[max(0, index - 8) : index + 1]):
            if symbol.address <= address < symbol.address + symbol.size or symbol.address == address:
                return symbol
        # Assembly often declares no sizes: the nearest label before is the best there is.
        labels = [one for one in self.all[max(0, index - 64) : index + 1] if one.size == 0]
        return labels[-1] if labels and address - labels[-1].address < LABEL_REACH else None

    def line(self, address: int) -> SourceLine | None:
        """The source line of the instruction at `address`."""
        starts, lines = self._lines
        index = bisect.bisect_right(starts, address) - 1
        return lines[index] if index >= 0 else None

    def describe(self, address: int) -> str:
        """`name+0x12 (file:line)` as far as known, else the bare address."""
        symbol = self.at(address)
        if symbol is None:
            return f"{address:#x}"
        line = self.line(address) if symbol.is_function else None
        return f"{symbol.name}+{address - symbol.address:#x}" + (f" ({line})" if line else "")

    @cached_property
    def _lines(self) -> tuple[list[int], list[SourceLine | None]]:
        """Start addresses in ascending order, and the line from each one on (None: no code)."""
        found: list[tuple[int, int, SourceLine | None]] = []
        with self.path.open("rb") as stream:
            elf = ELFFile(stream)
            if not elf.has_dwarf_info():
                return [], []
            dwarf = elf.get_dwarf_info()
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is not None:
                    found += _rows(program)
        found.sort(key=lambda row: row[:2])
        return [row[0] for row in found], [row[2] for row in found]


def _rows(program: LineProgram) -> list[tuple[int, int, SourceLine | None]]:
    """Rows of a line table as (address, 1, line); the end of a sequence as (address, 0, None)."""
    files = program["file_entry"]
    directories = program["include_directory"]
    first = 0 if program["version"] >= 5 else 1
    names = []
    for entry in files:
        directory = b""
        if first == 0 or entry.dir_index > 0:
            directory = directories[entry.dir_index - first]
        names.append(_join(directory.decode(), entry.name.decode()))
    rows: list[tuple[int, int, SourceLine | None]] = []
    for step in program.get_entries():
        state = step.state
        if state is None:
            continue
        if state.end_sequence:
            rows.append((state.address, 0, None))
        elif state.line:
            rows.append((state.address, 1, SourceLine(names[state.file - first], state.line)))
    return rows


def _join(directory: str, name: str) -> str:
    return name if not directory or name.startswith("/") else f"{directory}/{name}"


def demangle(name: str) -> str:
    """A Rust legacy-mangled name (`_ZN…17h<hash>E`) as a path; any other name unchanged.

    Source: rustc's `symbol_mangling::legacy`.
    """
    if not name.startswith("_ZN"):
        return name
    parts, rest = [], name[3:]
    while rest[:1].isdigit():
        digits = len(rest) - len(rest.lstrip("0123456789"))
        length = int(rest[:digits])
        parts.append(rest[digits : digits + length])
        rest = rest[digits + length :]
    if len(parts) > 1 and len(parts[-1]) == 17 and parts[-1][0] == "h":
        parts.pop()
    text = "::".join(part.removeprefix("_") if part.startswith("_$") else part for part in parts)
    for escape, plain in (
        ("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$RF$", "&"), ("$BP$", "*"), ("$C$", ","),
        ("$LP$", "("), ("$RP$", ")"), ("$u7b$", "{"), ("$u7d$", "}"), ("$u5b$", "["), ("$u5d$", "]"),
        ("..", "::"),
    ):  # fmt: skip
        text = text.replace(escape, plain)
    return text
