"""Memory as typed regions of 64-bit words.

A region's content is a base function of the word index and a log of updates; there are no arrays and no
quantifiers in the questions that reach a solver. Every address has to lie in exactly one region, which is
decided by the model of one satisfying state and then proved for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .. import smt
from ..smt import Bits, Bool

WORD = 8


@dataclass(frozen=True)
class Update:
    """From here on, words whose index satisfies `where` have the value `value(index)`."""

    where: Callable[[Bits], Bool]
    value: Callable[[Bits], Bits]


@dataclass(frozen=True)
class Content:
    """The words of a region: index (64 bits) to word (64 bits)."""

    base: Callable[[Bits], Bits]
    updates: tuple[Update, ...] = ()

    def __getitem__(self, index: Bits) -> Bits:
        index = smt.simplify(index)
        pending: list[tuple[Bool, Bits]] = []
        for update in reversed(self.updates):
            hit = smt.simplify(update.where(index))
            if smt.is_true(hit):
                result = update.value(index)
                break
            if not smt.is_false(hit):
                pending.append((hit, update.value(index)))
        else:
            result = self.base(index)
        for hit, value in reversed(pending):
            result = smt.choose(hit, value, result)
        return smt.simplify(result)

    def store(self, index: Bits, value: Bits) -> Content:
        """One word changed."""
        return self.change(lambda other: other == index, lambda _: value)

    def change(self, where: Callable[[Bits], Bool], value: Callable[[Bits], Bits]) -> Content:
        """Every word at an index that satisfies `where` changed."""
        return replace(self, updates=(*self.updates, Update(where, value)))


@dataclass(frozen=True)
class Region:
    """A range of memory: `words` 64-bit words from virtual address `base`.

    `allowed(index)` must be provable for every access; `writable` regions may be stored to; accesses to
    `shared` ones are part of the trace.
    """

    name: str
    base: Bits
    words: Bits
    content: Content
    writable: bool = True
    shared: bool = True
    allowed: Callable[[Bits], Bool] = lambda _index: smt.truth(True)

    def covers(self, address: Bits, size: int) -> Bool:
        """Whether `size` bytes at `address` lie inside."""
        length = self.words * WORD
        offset = address - self.base
        return smt.both(smt.unsigned_less(offset, length), smt.unsigned_at_most(offset, length - size))

    def overlaps(self, other: Region) -> Bool:
        """Whether some byte lies in both."""

        def begins_in(one: Region, two: Region) -> Bool:
            return smt.unsigned_less(one.base - two.base, two.words * WORD)

        is_some = smt.both(self.words != 0, other.words != 0)
        return smt.both(is_some, smt.either(begins_in(self, other), begins_in(other, self)))
