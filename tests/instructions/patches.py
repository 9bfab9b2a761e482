"""Images with single instructions replaced, to see what a check of the trace notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bulkhead.image.build import Images
from bulkhead.image.elf import read_program
from bulkhead.inspect.symbols import Symbols
from bulkhead.provision.paths import sha256_of

NOP = 0xD503201F
DSB_ISH, DSB_ISHST, DSB_SY, ISB = 0xD5033B9F, 0xD5033A9F, 0xD5033F9F, 0xD5033FDF
TLBI_VMALLE1IS = 0xD508831F
TLBI_IPAS2E1IS, DC_CIVAC, IC_IALLUIS = 0xD50C8020, 0xD50B7E20, 0xD508711F
MSR_VTTBR, MSR_VTCR = 0xD51C2100, 0xD51C2140
"""Operands in X0; the register is the low five bits."""
STLR, STR, CASAL, CAS = 0xC89FFC00, 0xF9000000, 0xC8E0FC00, 0xC8A07C00
"""64-bit, registers zero."""
ORDERED = {STLR: 0xFFFFFC00, CASAL: 0xFFE0FC00}
"""The bits of these that are no register."""


def function(images: Images, *path: str) -> list[tuple[int, int]]:
    """(address, word) of each instruction of the function whose name ends in `path`."""
    wanted = "::".join(path)
    symbol = next(
        one
        for one in Symbols(images.elf).all
        if one.is_function and (one.name == wanted or one.name.endswith("::" + wanted))
    )
    program = read_program(images.elf)
    start = symbol.address - program.base
    code = program.flat()[start : start + symbol.size]
    words = (int.from_bytes(code[offset : offset + 4], "little") for offset in range(0, symbol.size, 4))
    return [(symbol.address + 4 * number, word) for number, word in enumerate(words)]


def everywhere(images: Images, chosen: Callable[[int], bool]) -> list[tuple[int, int]]:
    """(address, word) of the engine's instructions that `chosen` likes."""
    program = read_program(images.elf)
    code = program.flat()[: max(one.end for one in program.segments if one.executable) - program.base]
    words = (int.from_bytes(code[offset : offset + 4], "little") for offset in range(0, len(code), 4))
    return [(program.base + 4 * number, word) for number, word in enumerate(words) if chosen(word)]


def places(images: Images, chosen: Callable[[int], bool], *path: str) -> list[int]:
    """Addresses in a function of the instructions that `chosen` likes."""
    return [address for address, word in function(images, *path) if chosen(word)]


def patched(images: Images, address: int, word: int, directory: Path) -> Images:
    """A copy of the image, and of the ELF file, with another instruction at `address`."""
    base = read_program(images.elf).base
    with images.elf.open("rb") as stream:
        section = next(
            one
            for one in ELFFile(stream).iter_sections()
            if one["sh_addr"] <= address < one["sh_addr"] + one["sh_size"]
        )
        offset = section["sh_offset"] + address - section["sh_addr"]
    elf, image = directory / "patched.elf", directory / "patched.img"
    for source, target, at in ((images.elf, elf, offset), (images.image, image, address - base)):
        data = bytearray(source.read_bytes())
        data[at : at + 4] = word.to_bytes(4, "little")
        target.write_bytes(data)
    return dataclasses.replace(images, elf=elf, image=image, sha256=sha256_of(image))
