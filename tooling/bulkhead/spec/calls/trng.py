"""Random numbers for host and VMs: TRNG Firmware Interface 1.0 (Arm DEN 0098). A 32-bit call has 32-bit arguments."""

from __future__ import annotations

from ..events import DrawRandom
from ..transaction import SUCCESS
from ..vcpu import VcpuTransaction
from ..words import Word, all_of, at_most, below, choose, field, negate
from .discovery import ABI, is_one_of, supported, words

TRNG_1_0 = 0x1_0000
FUNCTIONS = ("TRNG_VERSION", "TRNG_FEATURES", "TRNG_GET_UUID", "TRNG_RND32", "TRNG_RND64")


def need_source(t: VcpuTransaction) -> None:
    """Without a random source there are no such functions."""
    t.need(negate(t.before.config.has_random == 0), "NOT_SUPPORTED")


def version(t: VcpuTransaction) -> None:
    """TRNG 1.0."""
    need_source(t)
    t.answer(TRNG_1_0)


def features(t: VcpuTransaction, function: Word) -> None:
    """All functions of the standard."""
    need_source(t)
    t.answer(supported(is_one_of(function, *FUNCTIONS)))


def get_uuid(t: VcpuTransaction) -> None:
    """Which source it is."""
    need_source(t)
    t.answer(*words(ABI.trng_uid))


def rnd64(t: VcpuTransaction, bits: Word) -> None:
    """1 to 192 bits in x3, x2, x1, the lowest first; what was not asked for is zero."""
    low, middle, high = draw(t, bits, 192)
    t.answer(SUCCESS, high, middle, low)


def rnd32(t: VcpuTransaction, bits: Word) -> None:
    """1 to 96 bits in w3, w2, w1."""
    low, middle, _ = draw(t, field(bits, 0, 32), 96)
    t.answer(SUCCESS, middle, field(low, 32, 32), field(low, 0, 32))


def draw(t: VcpuTransaction, bits: Word, most: int) -> tuple[Word, Word, Word]:
    """The lowest `bits` of what the source gives, which forgets them."""
    need_source(t)
    t.need(all_of(at_most(1, bits), at_most(bits, most)), "INVALID_PARAMETERS")
    t.emit(DrawRandom())
    t.need(negate(t.before.inputs.entropy == 0), "NO_ENTROPY")
    low, middle, high = (
        lowest(word, bits, 64 * position) for position, word in enumerate(t.before.inputs.random)
    )
    return low, middle, high


def lowest(word: Word, bits: Word, first: int) -> Word:
    """Those of the 64 bits from bit `first` on that are among the lowest `bits`."""
    kept: Word = 0
    for count in range(1, 65):
        kept = choose(bits == first + count, word & (1 << count) - 1, kept)
    return choose(below(first + 64, bits), word, choose(below(first, bits), kept, 0))
