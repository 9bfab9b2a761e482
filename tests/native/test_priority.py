"""The errors of every call in their order: each alone, and of any two at once the first.

`ERRORS` lists the conditions of each call as the specification orders them. A line says which arguments break the
condition, or what has to happen first so that it is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import pytest

from bulkhead.conformance.backend import PAGE
from bulkhead.inspect.records import Kind
from native.scene import DEAD, FREE_SLOT, IPA, LIVE, MIB, NEW, RAM, UNCOVERED, Arguments, Scene

TOP = 1 << 39
"""First IPA that no VM has."""
NOTHING: Callable[[Scene], None] = lambda scene: None  # noqa: E731


@dataclass(frozen=True)
class Error:
    """A broken condition: the answer, and how to get there."""

    label: str
    status: str
    detail: str | int = 0
    arguments: Arguments = field(default_factory=dict)
    first: Callable[[Scene], object] = NOTHING
    address: str = ""
    """Argument that becomes an engine-owned address."""

    def broken(self, scene: Scene) -> Arguments:
        """Arguments that break the condition here."""
        if self.address:
            return self.arguments | {self.address: scene.machine.blocks(Kind.ENGINE)[-1]}
        return self.arguments

    @property
    def touches(self) -> set[str]:
        """Arguments that it needs for itself."""
        return set(self.arguments) | ({self.address} if self.address else set())


def invalid(argument: str, **arguments: int) -> Error:
    """An argument outside its domain."""
    return Error(f"{argument} {next(iter(arguments.values())):#x}", "INVALID_ARGUMENT", argument, arguments)


def ranges(argument: str, *words: int) -> Error:
    """Words of RAM ranges of vm_create, of which `argument` is at fault."""
    names = [f"ram{n // 2}_{'size' if n % 2 else 'base'}" for n in range(8)]
    padded = [*words, *[0] * (8 - len(words))]
    return Error("ranges " + " ".join(f"{word:x}" for word in words), "INVALID_ARGUMENT", argument,
                 dict(zip(names, padded, strict=True)))  # fmt: skip


def not_ours(argument: str) -> Error:
    """A frame that is the engine's."""
    return Error(f"{argument} is the engine's", "NOT_OWNED", argument, address=argument)


SLOTS = [invalid("vm", vm=value) for value in (64, 1 << 16, 1 << 32, (1 << 64) - 1)]
IPAS = [invalid("ipa", ipa=value) for value in (IPA + 1, IPA + 2048, TOP, 1 << 63, (1 << 64) - PAGE)]


def states(*slots: int) -> list[Error]:
    """VMs in states that the call does not work in."""
    return [Error(f"slot {slot}", "BAD_STATE", arguments={"vm": slot}) for slot in slots]


ERRORS: dict[str, list[list[Error]]] = {
    "vm_create": [
        SLOTS,
        [Error(f"slot {slot}", "ALREADY_MAPPED", arguments={"vm": slot}) for slot in (NEW, LIVE, DEAD)],
        [invalid("vcpus", vcpus=value) for value in (0, 9, 1 << 32 | 1, (1 << 64) - 1)],
        [invalid("flags", flags=value) for value in (1, 2, 1 << 63)],
        [ranges("ram0_size"), ranges("ram0_size", RAM, 0, RAM + MIB, MIB)],
        [
            ranges("ram0_base", RAM + 1, MIB),
            ranges("ram0_base", TOP, PAGE),
            ranges("ram0_base", (1 << 64) - PAGE, PAGE),
            ranges("ram0_size", RAM, MIB + 1),
            ranges("ram0_size", RAM, TOP - RAM + PAGE),
            ranges("ram0_size", RAM, (1 << 64) - PAGE),
            ranges("ram1_base", RAM, MIB, RAM, MIB),
            ranges("ram1_base", RAM, MIB, RAM + MIB - PAGE, MIB),
            ranges("ram1_base", RAM, MIB, 0, MIB),
            ranges("ram1_base", RAM, MIB, PAGE, 0),
            ranges("ram1_size", RAM, MIB, RAM + MIB, PAGE - 1),
            ranges("ram2_base", RAM, MIB, 0, 0, RAM, MIB),
            ranges("ram2_size", RAM, MIB, 0, 0, RAM + MIB, TOP),
            ranges("ram3_base", RAM, MIB, RAM + MIB, MIB, RAM + 2 * MIB, MIB, RAM, PAGE),
            ranges("ram3_base", RAM, MIB, RAM + MIB, MIB, RAM + 2 * MIB, MIB, 1, 0),
            ranges("ram3_size", RAM, MIB, RAM + MIB, MIB, RAM + 2 * MIB, MIB, TOP - PAGE, 2 * PAGE),
        ],
        [not_ours("root")],
    ],
    "host_split": [
        [invalid("block", block=value) for value in (RAM + PAGE, 1, (1 << 64) - 1, 0, TOP, (1 << 64) - (2 << 20))],
        [not_ours("block")],
        [not_ours("table")],
    ],
    "vm_kill": [SLOTS, states(FREE_SLOT, DEAD)],
    "vm_destroy": [SLOTS, states(FREE_SLOT, NEW, LIVE)],
    "table_donate": [
        SLOTS,
        states(FREE_SLOT, DEAD),
        IPAS,
        [invalid("level", level=value) for value in (0, 1, 4, 1 << 32 | 2, (1 << 64) - 1)],
        [not_ours("table")],
        [
            Error("no level 2 table", "TABLE_MISSING", 2, {"ipa": TOP - PAGE}),
            Error("level 3 exists", "ALREADY_MAPPED", 0, {"ipa": RAM}),
            Error("level 2 exists", "ALREADY_MAPPED", 0, {"level": 2}),
        ],
    ],
    "map": [
        SLOTS,
        states(FREE_SLOT, DEAD),
        IPAS,
        [invalid("ipa", ipa=value) for value in (0, RAM - PAGE, RAM + 8 * MIB, RAM + (1 << 30) + PAGE)],
        [invalid("mode", mode=value) for value in (2, 1 << 32, (1 << 64) - 1)],
        [Error("measured while ACTIVE", "BAD_STATE", arguments={"vm": LIVE, "mode": 1})],
        [not_ours("frame")],
        [
            Error("no level 2 table", "TABLE_MISSING", 2, {"ipa": RAM + (1 << 30)}),
            Error("no level 3 table", "TABLE_MISSING", 3, {"ipa": UNCOVERED}),
            Error("mapped already", "ALREADY_MAPPED", 0, {"ipa": RAM}),
        ],
    ],
    "vcpu_create": [
        SLOTS,
        states(FREE_SLOT, LIVE, DEAD),
        [invalid("index", index=value) for value in (2, 8, 1 << 32, (1 << 64) - 1)],
        [Error("exists", "ALREADY_MAPPED", arguments={"index": 0})],
        [not_ours("frame")],
    ],
    "vcpu_set_entry": [
        [not_ours("vcpu")],
        [invalid("entry", entry=value) for value in (1, RAM + 2, TOP, 1 << 63)],
        [Error("has an entry", "BAD_STATE", first=lambda scene: scene.new.entry())],
    ],
    "activate": [SLOTS, states(FREE_SLOT, LIVE, DEAD)],
}  # fmt: skip

ALONE = [(call, error) for call, groups in ERRORS.items() for group in groups for error in group]
PAIRS = [
    (call, first, second)
    for call, groups in ERRORS.items()
    for one, other in combinations(groups, 2)
    for first, second in [(one[0], other[-1]), (one[-1], other[0])]
    if not first.touches & second.touches
]


def name(value: object) -> str | None:
    """Test ids."""
    return value.label if isinstance(value, Error) else None


@pytest.mark.parametrize(("call", "error"), ALONE, ids=name)
def test_error(scene: Scene, call: str, error: Error) -> None:
    error.first(scene)
    scene.machine.refuses(call, error.status, error.detail, **scene.good(call) | error.broken(scene))


@pytest.mark.parametrize(("call", "first", "second"), PAIRS, ids=name)
def test_of_two_errors_the_first_counts(scene: Scene, call: str, first: Error, second: Error) -> None:
    first.first(scene)
    second.first(scene)
    arguments = scene.good(call) | second.broken(scene) | first.broken(scene)
    scene.machine.refuses(call, first.status, first.detail, **arguments)


@pytest.mark.parametrize("call", ERRORS)
def test_without_an_error_the_call_succeeds(scene: Scene, call: str) -> None:
    scene.machine.ok(call, **scene.good(call))
