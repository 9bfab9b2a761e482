"""Stage 2 translation tables, 4 KiB granule (Arm ARM DDI 0487 sections D8.2, D8.3 and D8.5).

A VM has 39-bit addresses and starts at level 1; the level 2 entries of the host, and those of the SMMU for its
devices, are flat, one for each 2 MiB block.
"""

from __future__ import annotations

from .state import Config
from .words import Truth, Word, field, minus, negate, plus, shift_right

IPA_BITS = 39
FRAME_SHIFT = 12
FRAME_SIZE = 1 << FRAME_SHIFT
TABLE_SHIFT = 9
BLOCK_SIZE = FRAME_SIZE << TABLE_SHIFT
TABLE_ENTRIES = 1 << TABLE_SHIFT
ADDRESS_MASK = 0x0000_FFFF_FFFF_F000
TABLE = 0b11
PAGE = 0x7FF
"""Level 3 leaf of RAM: Normal Write-Back (MemAttr 0b1111), S2AP read-write, inner shareable, access flag."""
BLOCK = 0x7FD
"""Level 2 leaf of RAM with the same attributes."""


def index(ipa: Word, level: int) -> Word:
    """Which entry of a table of `level` translates `ipa`."""
    return field(ipa, FRAME_SHIFT + TABLE_SHIFT * (3 - level), TABLE_SHIFT)


def address(config: Config, frame: Word) -> Word:
    """Physical address of a frame."""
    return plus(config.ram_base, frame << FRAME_SHIFT)


def page(config: Config, frame: Word) -> Word:
    """The level 3 descriptor that maps a frame of RAM."""
    return address(config, frame) | PAGE


def block(config: Config, block_: Word) -> Word:
    """The level 2 descriptor that maps a block of RAM."""
    return address(config, block_ << TABLE_SHIFT) | BLOCK


def table(config: Config, frame: Word) -> Word:
    """The descriptor that names the next table."""
    return address(config, frame) | TABLE


def target(config: Config, descriptor: Word) -> Word:
    """The frame that a valid descriptor names."""
    return shift_right(minus(descriptor & ADDRESS_MASK, config.ram_base), FRAME_SHIFT)


def is_valid(descriptor: Word) -> Truth:
    """Bit 0 of a descriptor."""
    return negate((descriptor & 1) == 0)


def is_table(descriptor: Word) -> Truth:
    """Whether a valid descriptor of level 1 or 2 names a table: bit 1."""
    return negate((descriptor & 2) == 0)


def word(table_: Word, index_: Word) -> Word:
    """Position in RAM, counted in 64-bit words from frame 0, of an entry of a table."""
    return table_ << TABLE_SHIFT | index_
