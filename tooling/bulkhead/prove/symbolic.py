"""States of solver terms: every map is an unknown function with a log of changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar, cast

from bulkhead.spec.state import RECORD_FIELDS, Config, Inputs, Map, Record, State
from bulkhead.spec.words import Truth, Word, all_of, below, choose, minus, term

from . import smt
from .smt import Bits, Bool

Value = TypeVar("Value")
Change = tuple[Callable[[Bits], Truth], Callable[[Bits], Value]]
"""Where a map changes, and to what."""
Touch = Callable[[str, Bits], None]
"""Called with the name of a map and a key whenever the unknown function behind the map is asked."""
DIGEST_WORDS = 4


def choose_value(condition: Truth, then: Value, otherwise: Value) -> Value:
    """`choose` for records too, field by field."""
    if isinstance(then, Record) and isinstance(otherwise, Record):
        fields = (choose(condition, a, b) for a, b in zip(then, otherwise, strict=True))
        return cast(Value, Record(*fields))
    return cast(Value, choose(condition, cast(Word, then), cast(Word, otherwise)))


class SymbolicMap(Generic[Value]):
    """An unknown function and the changes since, latest last."""

    def __init__(self, base: Callable[[Bits], Value], changes: tuple[Change[Value], ...] = ()) -> None:
        self._base = base
        self._changes = changes

    def __getitem__(self, key: Word) -> Value:
        index = smt.simplify(term(key))
        pending: list[tuple[Truth, Value]] = []
        for where, value in reversed(self._changes):
            hit = decided(where(index))
            if hit is True:
                result = value(index)
                break
            if hit is not False:
                pending.append((hit, value(index)))
        else:
            result = self._base(index)
        for hit, changed in reversed(pending):
            result = choose_value(hit, changed, result)
        return result

    def set(self, key: Word, value: Value, when: Truth) -> None:
        if when is not False:
            target = smt.simplify(term(key))
            self._changes += ((lambda other: all_of(when, other == target), lambda _: value),)

    def fill(self, first: Word, count: int, value: Callable[[Word], Value], when: Truth) -> None:
        if when is not False:
            start = smt.simplify(term(first))
            self._changes += (
                (
                    lambda other: all_of(when, below(minus(other, start), count)),
                    lambda other: value(minus(other, start)),
                ),
            )

    def fill_same(self, first: Word, count: int, value: Value, when: Truth) -> None:
        self.fill(first, count, lambda _: value, when)

    def copy(self) -> SymbolicMap[Value]:
        return SymbolicMap(self._base, self._changes)


def decided(condition: Truth) -> Truth:
    """The condition, as a plain truth value if simplification settles it."""
    if isinstance(condition, bool):
        return condition
    condition = smt.simplify(condition)
    if smt.is_true(condition):
        return True
    return False if smt.is_false(condition) else condition


def unknown_config() -> Config:
    """RAM from any GiB below 2**46, any number of blocks up to 2**19, any number of CPUs."""
    ram_base = smt.concat(smt.word(0, 18), smt.variable("ram_base_gib", 16), smt.word(0, 30))
    frames = smt.concat(smt.word(0, 35), smt.variable("blocks", 20), smt.word(0, 9))
    return Config(ram_base, frames, smt.variable("cpus"), smt.variable("has_dma"))


def unknown_state(touch: Touch) -> State:
    """A state about which nothing is known but its types."""

    def words(name: str) -> SymbolicMap[Word]:
        function = smt.function(f"state_{name}", 64, 64)

        def base(key: Bits) -> Word:
            touch(name, key)
            return function(key)

        return SymbolicMap[Word](base)

    def records(name: str) -> SymbolicMap[Record]:
        fields = {
            field: smt.function(f"state_{name}_{field}", 64, width)
            for field, (_, width) in RECORD_FIELDS.items()
        }

        def base(key: Bits) -> Record:
            touch(name, key)
            return Record(**{field: smt.zero_extend(part(key), 64) for field, part in fields.items()})

        return SymbolicMap[Record](base)

    return State(
        config=unknown_config(),
        block=records("block"),
        frame=records("frame"),
        ram=words("ram"),
        host_entry=words("host_entry"),
        dma_entry=words("dma_entry"),
        vm=words("vm"),
        digest=digest,
        counter=smt.variable("counter"),
        emptiness=lambda _ram, table: is_empty(term(table)),
    )


def unknown_machine(touch: Touch) -> State:
    """The same with what only vCPUs and calls beside ownership look at: CPUs, and all inputs."""
    state, name = unknown_state(touch), smt.variable
    loaded, identification, power = (
        smt.function(function, 64, 64) for function in ("state_cpu", "identification", "power")
    )

    def cpu(key: Bits) -> Word:
        touch("cpu", key)
        return loaded(key)

    inputs = Inputs(
        name("lock"),
        name("entropy"),
        (name("random0"), name("random1"), name("random2")),
        lambda register: identification(term(register)),
        (name("counted_calls"), name("counted_exits"), name("counted_stages")),
        (name("opaque"),),
        lambda affinity: power(term(affinity)),
        name("firmware"),
    )
    config = replace(state.config, has_random=name("has_random"))
    return replace(state, config=config, cpu=SymbolicMap[Word](cpu), inputs=inputs)


def digest(words: tuple[Word, ...], frame: Word | None, _ram: Map[Word]) -> tuple[Word, Word, Word, Word]:
    """SHA-256 as an unknown function of the words and the frame, whose content is unchanged."""
    arguments = [term(word) for word in words] + ([] if frame is None else [term(frame)])
    kind = "words" if frame is None else "frame"
    parts = [
        smt.function(f"sha256_{kind}_{position}", *([64] * (len(arguments) + 1)))(*arguments)
        for position in range(DIGEST_WORDS)
    ]
    return parts[0], parts[1], parts[2], parts[3]


def is_empty(table: Bits) -> Bool:
    """Whether the table was empty when the call began, as an unknown predicate; `empty_entry` is what it implies."""
    return smt.function("table_is_empty", 64, 1)(smt.simplify(table)) == 1


def empty_entry(state: State, word: Bits) -> Bool:
    """An entry of an empty table is not valid."""
    table = smt.shift_right(word, 9)
    return smt.implies(is_empty(table), term(state.ram[word] & 1) == 0)


def pack(record: Record) -> Bits:
    """The word of a frame record whose fields fit their widths."""
    word = smt.word(0)
    for name, (low, width) in RECORD_FIELDS.items():
        value = smt.extract(width - 1, 0, term(getattr(record, name)))
        word = word | smt.zero_extend(value, 64) << low
    return smt.simplify(word)


def is_packed(word: Bits, record: Record) -> Bool:
    """Whether a word is that of the record: every field as it is, all other bits zero."""
    reserved = 2**64 - 1 - sum(((1 << width) - 1) << low for low, width in RECORD_FIELDS.values())
    parts = [word & reserved == 0]
    for name, (low, width) in RECORD_FIELDS.items():
        value = smt.zero_extend(smt.extract(low + width - 1, low, word), 64)
        parts.append(value == term(getattr(record, name)))
    return smt.both(*parts)


def fact(condition: Truth) -> Bool:
    """The condition as a solver term."""
    return smt.truth(condition) if isinstance(condition, bool) else condition
