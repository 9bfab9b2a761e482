"""The words of a vCPU's context: a frame of RAM that only the engine reaches.

Trust label: STATEMENT. While a vCPU is loaded the CPU holds most of its registers; here they are words of the context
all the time. Names are those of the Arm ARM (DDI 0487); the order of system registers is that of the register table.
"""

from __future__ import annotations

from functools import cache

from bulkhead.registers import table

from . import stage2
from .state import Record, State, VmWord
from .words import Word, choose, field, plus

SWITCHED = tuple(register.name for register in table.load().switched())
RESIDENT = tuple(register.name for register in table.load().resident())
"""System registers of a vCPU in the order of its context: loaded at each entry, and with the vCPU."""


class ContextWord:
    """Positions. A test compares them with what the compiler has laid out."""

    X, ZERO, PC, PSTATE = 0, 31, 32, 33
    SWITCHED = 34
    VM, INDEX, FRAME, VTTBR, VMPIDR, PENDING, CONTROL, TIMER_PENDING = range(52, 60)
    RESIDENT = 60
    TIMER_LIST, TIMER_ACTIVE, FPCR, FPSR = range(72, 76)
    V = 76  # two words of each of 32, the low one first
    DEBUG = 140  # DBGBVR, DBGBCR, DBGWVR, DBGWCR of each of 16
    COUNT = 204


BOOKKEEPING = tuple(range(ContextWord.VM, ContextWord.RESIDENT))
"""Words that are the engine's own notes; all others are the VM's registers."""


class Pending:
    """Word PENDING: what the reply of the next `vcpu_run` is for. LOAD comes with the syndrome of a load."""

    NOTHING, HOST_CALL, LOAD = 0, 1, 1 << 63


@cache
def register(name: str) -> int:
    """The word of a system register. ValueError for one that contexts do not have."""
    if name in SWITCHED:
        return ContextWord.SWITCHED + SWITCHED.index(name)
    return ContextWord.RESIDENT + RESIDENT.index(name)


NOTES = ("VM", "INDEX", "FRAME", "VTTBR", "VMPIDR", "PENDING", "CONTROL", "TIMER_PENDING")
LATE = ("TIMER_LIST", "TIMER_ACTIVE", "FPCR", "FPSR")


def name_of(word: int) -> str:
    """A word of a context, for people."""
    if word < ContextWord.SWITCHED:
        return {ContextWord.ZERO: "word 31", ContextWord.PC: "PC", ContextWord.PSTATE: "PSTATE"}.get(
            word, f"x{word}"
        )
    debug = [f"{kind}{n}_EL1" for n in range(16) for kind in ("DBGBVR", "DBGBCR", "DBGWVR", "DBGWCR")]
    vectors = [f"v{n}.d[{half}]" for n in range(32) for half in range(2)]
    names = (*SWITCHED, *NOTES, *RESIDENT, *LATE, *vectors, *debug)
    position = word - ContextWord.SWITCHED
    return names[position] if position < len(names) else f"word {word}"


RESET_PSTATE, RESET_SCTLR = 0x3C5, 0x30C5_0830
"""EL1h with D, A, I and F masked; the RES1 bits of Armv8.0, MMU and caches off, little-endian."""
MPIDR_RES1 = 1 << 31


def reset(state: State, frame: Word, record: Record, entry: Word, argument: Word) -> dict[int, Word]:
    """The words, all others zero, of a vCPU that starts at `entry` with `argument` in x0."""
    root = state.vm_word(record.vm, VmWord.ROOT)
    return {
        ContextWord.X: argument,
        ContextWord.PC: entry,
        ContextWord.PSTATE: RESET_PSTATE,
        register("SCTLR_EL1"): RESET_SCTLR,
        ContextWord.VM: record.vm,
        ContextWord.INDEX: record.slot,
        ContextWord.FRAME: frame,
        ContextWord.VTTBR: stage2.address(state.config, root) | plus(record.vm, 1) << 48,
        ContextWord.VMPIDR: MPIDR_RES1 | record.slot,
    }


NO_DEADLINE = (1 << 64) - 1


def deadline(state: State, frame: Word) -> Word:
    """x9 of an exit: when the virtual timer fires, as a value of the physical counter."""

    def word(name: str) -> Word:
        return state.ram[stage2.word(frame, register(name))]

    fires = field(word("CNTV_CTL_EL0"), 0, 2) == 1  # enabled, not masked
    offset = state.vm_word(state.frame[frame].vm, VmWord.COUNTER_OFFSET)
    return choose(fires, plus(word("CNTV_CVAL_EL0"), offset), NO_DEADLINE)
