"""Arithmetic that means the same on plain integers and on solver terms.

A word is an unsigned 64-bit number. `+`, `-`, `&`, `|`, `<<` and `==` are used directly where they cannot
leave 64 bits; what differs between the two worlds has a name here. The solver is loaded when the first term appears:
where there are only integers, it need not be installed.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


def _when_used(name: str) -> ModuleType:
    """A module that is loaded by the first access to one of its names (`importlib.util.LazyLoader`)."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module(name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from bulkhead.prove import smt
    from bulkhead.prove.smt import Bits, Bool

    Word = int | Bits
    Truth = bool | Bool
else:
    smt = _when_used("bulkhead.prove.smt")
    Word = Truth = Any
MASK = 2**64 - 1


def term(value: Word) -> Bits:
    """The word as a solver term."""
    return smt.word(value) if isinstance(value, int) else value


def below(left: Word, right: Word) -> Truth:
    """left < right, unsigned."""
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    return smt.unsigned_less(term(left), term(right))


def at_most(left: Word, right: Word) -> Truth:
    """left <= right, unsigned."""
    return negate(below(right, left))


def plus(left: Word, right: Word) -> Word:
    """The sum modulo 2**64."""
    if isinstance(left, int) and isinstance(right, int):
        return left + right & MASK
    return term(left) + term(right)


def minus(left: Word, right: Word) -> Word:
    """The difference modulo 2**64."""
    if isinstance(left, int) and isinstance(right, int):
        return left - right & MASK
    return term(left) - term(right)


def shift_right(value: Word, amount: int) -> Word:
    """value >> amount, zeros entering."""
    return value >> amount if isinstance(value, int) else smt.shift_right(value, amount)


def field(value: Word, low: int, width: int) -> Word:
    """`width` bits of `value` from bit `low`."""
    return shift_right(value, low) & ((1 << width) - 1)


def negate(value: Truth) -> Truth:
    """Not."""
    return not value if isinstance(value, bool) else smt.negate(value)


def all_of(*parts: Truth) -> Truth:
    """And."""
    if any(part is False for part in parts):
        return False
    open_parts = [part for part in parts if not isinstance(part, bool)]
    return smt.both(*open_parts) if open_parts else True


def any_of(*parts: Truth) -> Truth:
    """Or."""
    if any(part is True for part in parts):
        return True
    open_parts = [part for part in parts if not isinstance(part, bool)]
    return smt.either(*open_parts) if open_parts else False


def implies(premise: Truth, conclusion: Truth) -> Truth:
    """Whenever the premise holds, so does the conclusion."""
    return any_of(negate(premise), conclusion)


def choose(condition: Truth, then: Word, otherwise: Word) -> Word:
    """`then` where the condition holds, else `otherwise`."""
    if isinstance(condition, bool):
        return then if condition else otherwise
    return smt.choose(condition, term(then), term(otherwise))
