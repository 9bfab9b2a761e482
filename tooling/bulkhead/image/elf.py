"""What an ELF file says will be in memory: segments, sections, and the flat bytes they make.

Trust label: TOOL. Source: System V gABI, chapters 4 and 5, read by pyelftools.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from bulkhead.errors import InvalidInput

PF_X, PF_W, PF_R = 1, 2, 4
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4


@dataclass(frozen=True)
class Segment:
    """A loadable segment: `size` bytes from `address`, beginning with `content`, the rest zero."""

    address: int
    size: int
    content: bytes = field(repr=False)
    writable: bool
    executable: bool

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.size

    @property
    def permissions(self) -> str:
        """As in `r-x`."""
        return "r" + ("w" if self.writable else "-") + ("x" if self.executable else "-")


@dataclass(frozen=True)
class Section:
    """An allocated section."""

    name: str
    address: int
    size: int
    writable: bool
    executable: bool

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.size


@dataclass(frozen=True)
class Program:
    """A linked program for AArch64."""

    path: Path
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]

    @property
    def base(self) -> int:
        """Lowest address."""
        return min(segment.address for segment in self.segments)

    @property
    def end(self) -> int:
        """First address behind everything, zero-filled memory included."""
        return max(segment.end for segment in self.segments)

    def flat(self) -> bytes:
        """Memory from `base` to `end` as loading the segments makes it; gaps are zero."""
        memory = bytearray(self.end - self.base)
        for segment in self.segments:
            start = segment.address - self.base
            memory[start : start + len(segment.content)] = segment.content
        return bytes(memory)


def read_program(path: Path) -> Program:
    """Read a linked AArch64 ELF file. InvalidInput if it is none or has nothing to load."""
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            machine, entry = elf["e_machine"], elf["e_entry"]
            segments = tuple(
                Segment(
                    one["p_vaddr"], one["p_memsz"], one.data(),
                    bool(one["p_flags"] & PF_W), bool(one["p_flags"] & PF_X),
                )
                for one in elf.iter_segments("PT_LOAD")
                if one["p_memsz"]
            )  # fmt: skip
            sections = tuple(
                Section(
                    one.name, one["sh_addr"], one["sh_size"],
                    bool(one["sh_flags"] & SHF_WRITE), bool(one["sh_flags"] & SHF_EXECINSTR),
                )
                for one in elf.iter_sections()
                if one["sh_flags"] & SHF_ALLOC and one["sh_size"]
            )  # fmt: skip
    except (OSError, ELFError) as error:
        raise InvalidInput(
            f"this ELF file cannot be read: {error}", where=path, hint="build it again"
        ) from error
    if machine != "EM_AARCH64" or not segments:
        raise InvalidInput("this is no linked program for AArch64", where=path, hint="build it again")
    return Program(path, entry, segments, sections)
