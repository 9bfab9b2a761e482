"""A typed face for the part of z3 that the prover uses.

z3's Python package carries no type information, so only this module and the solver import it. Widths are
in bits. `Bits` is a bit-vector term, `Bool` a truth-valued one; both overload the operators whose meaning
is the same for signed and unsigned words, every order is named (`unsigned_less`, `signed_less`).

Source: SMT-LIB 2.6, theory FixedSizeBitVectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import z3  # type: ignore[import-untyped]  # z3 ships no type information

if TYPE_CHECKING:

    class Bool:
        """A truth-valued term."""

        def get_id(self) -> int: ...
        def children(self) -> list[Bool]: ...
        def __eq__(self, other: object) -> Bool: ...  # type: ignore[override]  # builds a term

    class Bits:
        """A bit-vector term."""

        def size(self) -> int: ...
        def get_id(self) -> int: ...
        def sexpr(self) -> str: ...
        def __add__(self, other: Bits | int) -> Bits: ...
        def __radd__(self, other: int) -> Bits: ...
        def __ror__(self, other: int) -> Bits: ...
        def __rand__(self, other: int) -> Bits: ...
        def __sub__(self, other: Bits | int) -> Bits: ...
        def __mul__(self, other: Bits | int) -> Bits: ...
        def __and__(self, other: Bits | int) -> Bits: ...
        def __or__(self, other: Bits | int) -> Bits: ...
        def __xor__(self, other: Bits | int) -> Bits: ...
        def __lshift__(self, other: Bits | int) -> Bits: ...
        def __invert__(self) -> Bits: ...
        def __eq__(self, other: object) -> Bool: ...  # type: ignore[override]  # builds a term
        def __ne__(self, other: object) -> Bool: ...  # type: ignore[override]  # builds a term

else:
    Bool = z3.BoolRef
    Bits = z3.BitVecRef

Term = TypeVar("Term", Bits, Bool)


def word(value: int, width: int = 64) -> Bits:
    """The constant `value` modulo 2**width."""
    result: Bits = z3.BitVecVal(value, width)
    return result


def variable(name: str, width: int = 64) -> Bits:
    """The free bit-vector called `name`."""
    result: Bits = z3.BitVec(name, width)
    return result


def fresh(name: str, width: int = 64) -> Bits:
    """A bit-vector that occurs nowhere else."""
    result: Bits = z3.FreshConst(z3.BitVecSort(width), name)
    return result


def fresh_bool(name: str) -> Bool:
    """A truth value that occurs nowhere else."""
    result: Bool = z3.FreshConst(z3.BoolSort(), name)
    return result


def function(name: str, *widths: int) -> Callable[..., Bits]:
    """An uninterpreted function; the last width is the result's."""
    result: Callable[..., Bits] = z3.Function(name, *(z3.BitVecSort(width) for width in widths))
    return result


def truth(value: bool) -> Bool:
    """The constant `value`."""
    result: Bool = z3.BoolVal(value)
    return result


def extract(high: int, low: int, value: Bits) -> Bits:
    """Bits high..low of `value`, both included."""
    result: Bits = z3.Extract(high, low, value)
    return result


def bit(index: int, value: Bits) -> Bool:
    """Whether bit `index` of `value` is one."""
    return extract(index, index, value) == 1


def concat(*parts: Bits) -> Bits:
    """The parts side by side, most significant first."""
    result: Bits = z3.Concat(*parts) if len(parts) > 1 else parts[0]
    return result


def zero_extend(value: Bits, width: int) -> Bits:
    """`value` widened to `width` bits with zeros."""
    result: Bits = z3.ZeroExt(width - value.size(), value)
    return result


def sign_extend(value: Bits, width: int) -> Bits:
    """`value` widened to `width` bits with its sign."""
    result: Bits = z3.SignExt(width - value.size(), value)
    return result


def shift_right(value: Bits, amount: Bits | int) -> Bits:
    """LSR: zeros enter from the left."""
    result: Bits = z3.LShR(value, amount)
    return result


def shift_right_signed(value: Bits, amount: Bits | int) -> Bits:
    """ASR: copies of the sign enter from the left."""
    result: Bits = value >> amount  # type: ignore[operator,assignment]  # bvashr
    return result


def rotate_right(value: Bits, amount: Bits | int) -> Bits:
    """ROR by `amount`, taken modulo the width."""
    result: Bits = z3.RotateRight(value, amount)
    return result


def unsigned_divide(left: Bits, right: Bits) -> Bits:
    """The quotient of unsigned words; the caller rules out a zero divisor."""
    result: Bits = z3.UDiv(left, right)
    return result


def signed_divide(left: Bits, right: Bits) -> Bits:
    """The quotient, rounded towards zero, of signed words; the caller rules out a zero divisor."""
    result: Bits = left / right  # type: ignore[operator]  # bvsdiv
    return result


def unsigned_less(left: Bits, right: Bits | int) -> Bool:
    """left < right as unsigned words."""
    result: Bool = z3.ULT(left, right)
    return result


def unsigned_at_most(left: Bits, right: Bits | int) -> Bool:
    """left <= right as unsigned words."""
    result: Bool = z3.ULE(left, right)
    return result


def signed_less(left: Bits, right: Bits) -> Bool:
    """left < right as signed words."""
    result: Bool = left < right  # type: ignore[operator]  # bvslt
    return result


def both(*parts: Bool) -> Bool:
    """The conjunction."""
    result: Bool = z3.And(*parts) if len(parts) != 1 else parts[0]
    return result


def either(*parts: Bool) -> Bool:
    """The disjunction."""
    result: Bool = z3.Or(*parts) if len(parts) != 1 else parts[0]
    return result


def negate(part: Bool) -> Bool:
    """The negation."""
    result: Bool = z3.Not(part)
    return result


def implies(premise: Bool, conclusion: Bool) -> Bool:
    """The implication."""
    result: Bool = z3.Implies(premise, conclusion)
    return result


def choose(condition: Bool, then: Term, otherwise: Term) -> Term:
    """`then` where the condition holds, else `otherwise`."""
    result: Term = z3.If(condition, then, otherwise)
    return result


def simplify(term: Term) -> Term:
    """An equal, usually smaller term."""
    result: Term = z3.simplify(term)
    return result


def constant(term: Bits) -> int | None:
    """The value of an already simplified constant, None for any other term."""
    return int(term.as_long()) if z3.is_bv_value(term) else None  # type: ignore[attr-defined]


def is_true(term: Bool) -> bool:
    """Whether an already simplified term is the constant true."""
    return bool(z3.is_true(term))


def is_false(term: Bool) -> bool:
    """Whether an already simplified term is the constant false."""
    return bool(z3.is_false(term))


def conjuncts(goal: Bool) -> list[Bool]:
    """The goal split into parts that hold together exactly when it holds."""
    if z3.is_and(goal):
        return [part for child in goal.children() for part in conjuncts(child)]
    if z3.is_implies(goal):
        premise, conclusion = goal.children()
        return [implies(premise, part) for part in conjuncts(conclusion)]
    return [goal]


def symbols(terms: Iterable[Bits | Bool]) -> set[str]:
    """Names of the free constants and functions in `terms`."""
    seen: set[int] = set()
    names: set[str] = set()
    todo: list[Bits | Bool] = list(terms)
    while todo:
        term = todo.pop()
        if term.get_id() in seen:
            continue
        seen.add(term.get_id())
        declaration = term.decl()  # type: ignore[union-attr]
        if declaration.kind() == z3.Z3_OP_UNINTERPRETED:
            names.add(declaration.name())
        todo.extend(term.children())  # type: ignore[union-attr]
    return names


def any_of(parts: Sequence[Bool]) -> Bool:
    """The disjunction of a list that may be empty."""
    return either(*parts) if parts else truth(False)


if TYPE_CHECKING:

    class Model:
        """Values for the free symbols of a satisfiable question."""

else:
    Model = z3.ModelRef


def value_in(model: Model, term: Bits) -> int:
    """The value of `term` in the model; symbols that the model leaves open are zero."""
    result: int = model.eval(term, model_completion=True).as_long()  # type: ignore[attr-defined]
    return result


def holds_in(model: Model, term: Bool) -> bool:
    """Whether `term` is true in the model."""
    return bool(z3.is_true(model.eval(term, model_completion=True)))  # type: ignore[attr-defined]


def addend(term: Bits) -> int:
    """The constant summand of an already simplified sum; 0 if there is none."""
    value = constant(term)
    if value is not None:
        return value
    if z3.is_app_of(term, z3.Z3_OP_BADD):
        return sum(constant(part) or 0 for part in term.children())  # type: ignore[attr-defined,misc]
    return 0
