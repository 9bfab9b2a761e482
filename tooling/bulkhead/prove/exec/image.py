"""The ELF file whose bytes are executed: code, constants, symbols, and source lines for messages."""

from __future__ import annotations

import hashlib
import importlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from bulkhead.errors import InvalidInput

capstone: Any = importlib.import_module("capstone")  # no type information


SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4


@dataclass(frozen=True)
class Section:
    """An allocated section: its bytes are empty where the file has none (zero-initialised data)."""

    name: str
    address: int
    size: int
    data: bytes
    executable: bool
    writable: bool


@dataclass(frozen=True)
class Symbol:
    """A named address with its size in bytes."""

    name: str
    address: int
    size: int


class Image:
    """A linked AArch64 ELF file; `patches` replace instruction words, for tests that the prover notices."""

    def __init__(self, path: Path, patches: dict[int, int] | None = None) -> None:
        self.path = path
        self.patches = patches or {}
        self.bytes = path.read_bytes()
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_machine"] != "EM_AARCH64":
                raise InvalidInput("not an AArch64 ELF file", where=path)
            self.sections = [
                Section(
                    section.name,
                    section["sh_addr"],
                    section["sh_size"],
                    b"" if section["sh_type"] == "SHT_NOBITS" else section.data(),
                    bool(section["sh_flags"] & SHF_EXECINSTR),
                    bool(section["sh_flags"] & SHF_WRITE),
                )
                for section in elf.iter_sections()
                if section["sh_flags"] & SHF_ALLOC
            ]
            table = elf.get_section_by_name(".symtab")
            if not isinstance(table, SymbolTableSection):
                raise InvalidInput("the ELF file has no symbol table", where=path)
            self.symbols = {
                symbol.name: Symbol(symbol.name, symbol["st_value"], symbol["st_size"])
                for symbol in table.iter_symbols()
                if symbol.name and not symbol.name.startswith("$")
            }

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.bytes).hexdigest()

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name; InvalidInput if the image has none."""
        try:
            return self.symbols[name]
        except KeyError:
            raise InvalidInput(f"the image has no symbol {name}", where=self.path) from None

    def function(self, *path: str) -> Symbol:
        """The one Rust function of that path, such as `call`, `map`, `map`, whatever its mangling."""
        mangled = "".join(f"{len(part)}{part}" for part in path)
        found = [symbol for name, symbol in self.symbols.items() if mangled in name]
        if len(found) != 1:
            raise InvalidInput(f"{len(found)} functions are called {'::'.join(path)}", where=self.path)
        return found[0]

    def _section(self, address: int, size: int) -> Section | None:
        for section in self.sections:
            if section.address <= address and address + size <= section.address + section.size:
                return section
        return None

    def instruction(self, address: int) -> int | None:
        """The instruction word at an executable address."""
        if address in self.patches:
            return self.patches[address]
        section = self._section(address, 4)
        if section is None or not section.executable or address % 4:
            return None
        offset = address - section.address
        return int.from_bytes(section.data[offset : offset + 4], "little")

    def constant(self, address: int, size: int) -> int | None:
        """`size` bytes of read-only data, little-endian."""
        section = self._section(address, size)
        if section is None or section.writable or section.executable:
            return None
        offset = address - section.address
        return int.from_bytes(section.data[offset : offset + size], "little")

    def function_at(self, address: int) -> str:
        """Name of the function that holds the address, with the distance from its start."""
        starts, names = self._functions
        position = bisect_right(starts, address) - 1
        return f"{names[position]}+{address - starts[position]:#x}" if position >= 0 else hex(address)

    @cached_property
    def _functions(self) -> tuple[list[int], list[str]]:
        code = [section for section in self.sections if section.executable]
        found = sorted(
            (symbol.address, symbol.name)
            for symbol in self.symbols.values()
            if any(section.address <= symbol.address < section.address + section.size for section in code)
        )
        return [address for address, _ in found], [name for _, name in found]

    def offset(self, structure: str, *path: str) -> int:
        """Bytes from the start of a Rust structure to a member of a member ..., from the debug information (DWARF 5
        section 5.7.6). InvalidInput if there is no such member.
        """
        total = 0
        for name in path:
            members = structures(self.path, self.sha256).get(structure, {})
            if name not in members:
                raise InvalidInput(f"{structure} has no member {name}", where=self.path)
            offset, structure = members[name]
            total += offset
        return total

    def disassemble(self, address: int) -> str:
        """The instruction at an address as text."""
        instruction = self.instruction(address)
        if instruction is None:
            return "<no code>"
        decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        for found in decoder.disasm(instruction.to_bytes(4, "little"), address):
            return f"{found.mnemonic} {found.op_str}".strip()
        return f".inst {instruction:#010x}"

    def source_line(self, address: int) -> str:
        """`file:line` from the line number program (DWARF 5 section 6.2), empty if there is none."""
        starts, lines = source_lines(self.path, self.sha256)
        position = bisect_right(starts, address) - 1
        return lines[position] if position >= 0 else ""


# Debug information is the same for all images made from one file, patched or not.


@cache
def structures(path: Path, _sha256: str) -> dict[str, dict[str, tuple[int, str]]]:
    """Structure → member → offset in bytes and name of its type."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    with path.open("rb") as stream:
        for unit in ELFFile(stream).get_dwarf_info().iter_CUs():
            for entry in unit.iter_DIEs():
                if entry.tag == "DW_TAG_structure_type" and _name(entry):
                    members = [child for child in entry.iter_children() if child.tag == "DW_TAG_member"]
                    if members:
                        found[_name(entry)] = {_name(member): _place(member) for member in members}
    return found


@cache
def source_lines(path: Path, _sha256: str) -> tuple[list[int], list[str]]:
    """Addresses, ascending, and `file:line` of the code from each on (DWARF 5 section 6.2)."""
    found: list[tuple[int, str]] = []
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        if not elf.has_dwarf_info():
            return [], []
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            first = 0 if program["version"] >= 5 else 1
            files = program["file_entry"]
            for entry in program.get_entries():
                state = entry.state
                if state is None or state.end_sequence:
                    continue
                position = state.file - first
                name = files[position].name.decode() if 0 <= position < len(files) else "?"
                found.append((state.address, f"{name}:{state.line}"))
    found.sort(key=lambda pair: pair[0])
    return [address for address, _ in found], [line for _, line in found]


def _name(entry: Any) -> str:
    """DW_AT_name, empty if there is none."""
    attribute = entry.attributes.get("DW_AT_name")
    return attribute.value.decode() if attribute else ""


def _place(member: Any) -> tuple[int, str]:
    """Offset in bytes and name of the type of a member."""
    kind = member.get_DIE_from_attribute("DW_AT_type")
    return int(member.attributes["DW_AT_data_member_location"].value), _name(kind)
