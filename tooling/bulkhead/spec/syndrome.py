"""What the CPU says about an exception of a VM (Arm ARM DDI 0487, D24.2.40 `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2`).

Trust label: STATEMENT.
"""

from __future__ import annotations

from typing import NamedTuple

from .words import Truth, Word, all_of, choose, field, negate

EC_WFX, EC_HVC, EC_SMC, EC_SYSTEM, EC_INSTRUCTION_ABORT, EC_DATA_ABORT = 0x01, 0x16, 0x17, 0x18, 0x20, 0x24
ISS = (1 << 25) - 1
ISV, SIGNED, WIDE, WRITE, TABLE_WALK = 24, 21, 15, 6, 7
"""Bits of a data abort: 23:14 are valid; sign-extends (SSE); 64 bits (SF); store (WnR); on a stage 1 walk (S1PTW)."""


def bit(value: Word, number: int) -> Truth:
    """Whether a bit is one."""
    return negate(field(value, number, 1) == 0)


class Syndrome(NamedTuple):
    """ESR_EL2, FAR_EL2 and HPFAR_EL2."""

    esr: Word
    far: Word = 0
    hpfar: Word = 0

    @property
    def exception_class(self) -> Word:
        """EC."""
        return field(self.esr, 26, 6)

    @property
    def page(self) -> Word:
        """The intermediate physical address of the page of an abort."""
        return field(self.hpfar, 4, 40) << 12

    @property
    def address(self) -> Word:
        """The intermediate physical address of an abort."""
        return self.page | self.far & 0xFFF

    @property
    def is_translation_fault(self) -> Truth:
        """Fault status 0b0001xx: translation fault at any level."""
        return field(self.esr, 2, 4) == 1

    @property
    def describes_access(self) -> Truth:
        """Size and register are known, and the access was the VM's own, not that of a stage 1 walk."""
        return all_of(bit(self.esr, ISV), negate(bit(self.esr, TABLE_WALK)))

    @property
    def size(self) -> Word:
        """Bytes of the access (SAS)."""
        return by_size(self.esr, 1, 2, 4, 8)

    @property
    def register(self) -> Word:
        """The register that the access loads or stores (SRT)."""
        return field(self.esr, 16, 5)

    @property
    def transfer(self) -> Word:
        """The register of a trapped MSR or MRS (Rt)."""
        return field(self.esr, 5, 5)


HVC = Syndrome(EC_HVC << 26)


def by_size(esr: Word, byte: Word, half: Word, word: Word, double: Word) -> Word:
    """One of four by the size of the access (SAS)."""
    size = field(esr, 22, 2)
    return choose(size == 0, byte, choose(size == 1, half, choose(size == 2, word, double)))


def low_bytes(esr: Word, value: Word) -> Word:
    """As much of a value as the access has."""
    return by_size(esr, value & 0xFF, value & 0xFFFF, value & 0xFFFF_FFFF, value)
