"""Self-hosted debug of a VM (Arm ARM DDI 0487, D2.8 breakpoints, D2.10 watchpoints, D2.12 software step).

Every access to a debug register traps. The CPU holds the breakpoints and watchpoints of the loaded vCPU while its
MDSCR_EL1 is not zero.
"""

from __future__ import annotations

from ..context import ContextWord, register
from ..events import SetDebugRegister
from ..state import State
from ..vcpu import VcpuTransaction
from ..words import Truth, Word, all_of, at_most, below, choose, field, negate

NUMBERS = 16
"""Breakpoints, and watchpoints, that the architecture allows (without FEAT_Debugv8p9)."""
FIRST_KIND = 4
"""op2 of DBGBVR<n>_EL1; DBGBCR<n>, DBGWVR<n> and DBGWCR<n> follow."""
CONTROL = 1 | 1 << 12 | 1 << 13 | 1 << 15
"""`MDSCR_EL1` SS, TDCC, KDE, MDE: what acts on the VM alone."""
BREAKPOINT = 1 | 3 << 1 | 0xF << 5 | 0xF << 16 | 3 << 20
"""DBGBCR: E, PMC, BAS, LBN, and BT for addresses and CONTEXTIDR_EL1; HMC and SSC stay zero: EL0 and EL1 only."""
WATCHPOINT = 1 | 3 << 1 | 3 << 3 | 0xFF << 5 | 0xF << 16 | 1 << 20 | 0x1F << 24
"""DBGWCR: E, PAC, LSC, BAS, LBN, WT, MASK."""
EVERYTHING = (1 << 64) - 1
KEPT = (EVERYTHING, BREAKPOINT, EVERYTHING, WATCHPOINT)
"""Bits that a VM may choose, by kind."""
MDSCR_CRM, MDSCR_OP2 = 2, 2
ID_AA64DFR0 = 5 << 3


def highest(state: State, kind: int) -> Word:
    """The highest number of a register of this kind: ID_AA64DFR0_EL1 BRPs or WRPs."""
    return field(state.inputs.identification(ID_AA64DFR0), 12 if kind < 2 else 20, 4)


def load(t: VcpuTransaction, control: Word) -> None:
    """The CPU gets the breakpoints and watchpoints, if they can act."""
    in_use = negate(control == 0)
    if in_use is False:
        return
    for kind in range(4):
        for number in range(NUMBERS):
            value = t.word(ContextWord.DEBUG + 4 * number + kind)
            exists = at_most(number, highest(t.before, kind))
            t.emit_if(all_of(in_use, exists), SetDebugRegister(number, FIRST_KIND + kind, value))


def set_control(t: VcpuTransaction, value: Word) -> None:
    """A write of MDSCR_EL1."""
    kept = value & CONTROL
    t.set_word(register("MDSCR_EL1"), kept)
    load(t, kept)
    t.emit(SetDebugRegister(MDSCR_CRM, MDSCR_OP2, kept))


def exists(state: State, number: Word, op2: Word) -> Truth:
    """Whether there is a register DBGBVR<n>, DBGBCR<n>, DBGWVR<n> or DBGWCR<n>."""
    last = choose(below(op2, FIRST_KIND + 2), highest(state, 0), highest(state, 2))
    return all_of(at_most(FIRST_KIND, op2), at_most(number, last))


def write(t: VcpuTransaction, number: Word, op2: Word, value: Word) -> None:
    """A write of such a register, kept to the bits that a VM may choose."""
    kind = op2 & 3
    mask = choose(kind == 1, KEPT[1], choose(kind == 3, KEPT[3], EVERYTHING))
    t.set_word(ContextWord.DEBUG + (number << 2 | kind), value & mask)
    in_use = negate(t.system("MDSCR_EL1") == 0)
    t.emit_if(in_use, SetDebugRegister(number, op2, value & mask))


def value(t: VcpuTransaction, number: Word, op2: Word) -> Word:
    """What such a register holds."""
    return t.word(ContextWord.DEBUG + (number << 2 | op2 & 3))
