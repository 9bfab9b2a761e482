"""The engine's machine code as a graph: conditional branches, and instructions from which only a panic is reached.

Trust label: TOOL. Encodings: Arm ARM DDI 0487, C4.1.93 (branches).
"""

from __future__ import annotations

from collections.abc import Sequence

NOP, ERET, RET = 0xD503201F, 0xD69F03E0, 0xD65F03C0


def is_conditional(word: int) -> bool:
    """B.cond and BC.cond; CBZ and CBNZ; TBZ and TBNZ."""
    return word >> 24 == 0x54 or word & 0x7E000000 in (0x34000000, 0x36000000)


def target(word: int, number: int) -> int | None:
    """Where the direct branch `word`, instruction `number`, goes to: a number; None if it is no direct branch."""
    if word & 0x7C000000 == 0x14000000:
        offset, width = word & 0x3FFFFFF, 26
    elif word & 0x7E000000 == 0x36000000:
        offset, width = word >> 5 & 0x3FFF, 14
    elif is_conditional(word):
        offset, width = word >> 5 & 0x7FFFF, 19
    else:
        return None
    return number + offset - ((offset >> width - 1) << width)


def condition(words: Sequence[int], number: int) -> tuple[tuple[int, ...], bool]:
    """What a conditional branch asks, without the registers: equal for copies of one branch; and whether it is taken if
    the answer is yes. Compilers turn conditions round and make copies of loops and of what they inline.
    """
    word = words[number]
    if word >> 24 == 0x54:
        before = next((one for one in reversed(words[max(0, number - 6) : number]) if _sets_flags(one)), 0)
        return (0x54, word >> 1 & 7, before & 0x7FFFFC00 if _is_immediate(before) else 0), word & 1 == 0
    if word & 0x7E000000 == 0x36000000:
        return (0x36, word >> 31 << 5 | word >> 19 & 31), word >> 24 & 1 == 0
    return (0x34,), word >> 24 & 1 == 0


def _is_immediate(word: int) -> bool:
    return word & 0x1F800000 == 0x11000000 or word & 0x1F800000 == 0x12000000


def _sets_flags(word: int) -> bool:
    """ADDS, SUBS, ANDS; CCMP, CCMN (C4.1.92, C4.1.95)."""
    arithmetic = word & 0x3F000000 in (0x31000000, 0x2B000000)
    return arithmetic or word & 0x7F000000 in (0x72000000, 0x6A000000) or word & 0x3FE00000 == 0x3A400000


def doomed(words: Sequence[int], ends: Sequence[bool]) -> list[bool]:
    """For each instruction whether every way from it ends in a call of a function that `ends` marks the start of."""
    found = [False] * len(words)
    changed = True
    while changed:
        changed = False
        for number in range(len(words) - 1, -1, -1):
            if not found[number] and _is_doomed(words, ends, found, number):
                found[number] = changed = True
    return found


def _is_doomed(words: Sequence[int], ends: Sequence[bool], found: list[bool], number: int) -> bool:
    word = words[number]
    goes = target(word, number)
    inside = goes is not None and 0 <= goes < len(words)
    following = number + 1 < len(words) and found[number + 1]
    if goes is None:
        return following and not _leaves(word)
    there = inside and (ends[goes] or found[goes])
    if word >> 31 and word & 0x7C000000 == 0x14000000:  # BL: a call comes back, unless it ends
        return (inside and ends[goes]) or following
    if is_conditional(word):
        return there and following
    return there


def _leaves(word: int) -> bool:
    """RET, BR, BLR, ERET: where it goes is not known; UDF, BRK: nowhere."""
    return word >> 25 == 0b1101011 or word >> 16 == 0 or word >> 21 == 0x6A1
