"""The errors of every call in their order: each alone, and of any two at once the first.

`ERRORS` lists the conditions of each call as the specification orders them. A line says which arguments break the
condition, or what has to happen first so that it is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import pytest

from bulkhead.conformance.backends.backend import PAGE
from bulkhead.inspect.records import Kind
from native.scene import (
    BLOCK_IPA,
    DEAD,
    FREE_SLOT,
    GIB,
    IPA,
    LIVE,
    MIB,
    NEW,
    RAM,
    UNCOVERED,
    Arguments,
    Scene,
)

TOP = 1 << 39
"""First IPA that no VM has."""


def nothing(_: Scene) -> None:
    """The scene as it is."""


@dataclass(frozen=True)
class Error:
    """A broken condition: the answer, and how to get there."""

    label: str
    status: str
    detail: str | int = 0
    arguments: Arguments = field(default_factory=dict)
    first: Callable[[Scene], object] = nothing
    found: str = ""
    """Argument whose value is found in the scene ..."""
    where: Callable[[Scene], int] = lambda scene: scene.machine.blocks(Kind.ENGINE)[-1]
    """... there."""

    def broken(self, scene: Scene) -> Arguments:
        """Arguments that break the condition here."""
        if self.found:
            return self.arguments | {self.found: self.where(scene)}
        return self.arguments

    @property
    def touches(self) -> set[str]:
        """Arguments that it needs for itself."""
        return set(self.arguments) | ({self.found} if self.found else set())


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
    return Error(f"{argument} is the engine's", "NOT_OWNED", argument, found=argument)


def block_is(what: str, where: Callable[[Scene], int]) -> Error:
    """A block that is something else."""
    return Error(f"block is {what}", "NOT_OWNED", "block", found="block", where=where)


SLOTS = [invalid("vm", vm=value) for value in (64, 1 << 16, 1 << 32, (1 << 64) - 1)]
BLOCKS = [
    invalid("block", block=value) for value in (RAM + PAGE, 1, (1 << 64) - 1, 0, TOP, (1 << 64) - (2 << 20))
]
SPLIT_BLOCK = block_is("split", lambda scene: scene.machine.layout.split_block)
VM_BLOCK = block_is("a VM's", lambda scene: scene.vm_block)
HOST_BLOCK = block_is("the host's", lambda scene: scene.whole)
WINDOW = block_is("a DMA window", Scene.window)
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
        BLOCKS,
        [not_ours("block"), VM_BLOCK, WINDOW],
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
    "map_block": [
        SLOTS,
        states(FREE_SLOT, DEAD),
        [invalid("ipa", ipa=value) for value in (BLOCK_IPA + 1, BLOCK_IPA + PAGE, BLOCK_IPA + MIB, TOP, 1 << 63)],
        [invalid("ipa", ipa=value) for value in (0, RAM - 2 * MIB, RAM + 8 * MIB, RAM + GIB, TOP - 2 * MIB)],
        BLOCKS,
        [not_ours("block"), SPLIT_BLOCK, VM_BLOCK, WINDOW],
        [
            Error("no level 2 table", "TABLE_MISSING", 2, {"ipa": RAM + 2 * GIB}),
            Error("a table is there", "ALREADY_MAPPED", 0, {"ipa": RAM}),
            Error("a block is there", "ALREADY_MAPPED", first=lambda scene: scene.vm_block),
        ],
    ],
    "vm_split": [
        BLOCKS,
        [not_ours("block"), SPLIT_BLOCK, HOST_BLOCK, WINDOW],
        [Error("DYING", "BAD_STATE", first=lambda scene: (scene.vm_block, scene.new.kill()))],
        [
            not_ours("table"),
            Error("table is in the block", "NOT_OWNED", "table", found="table", where=lambda scene: scene.vm_block),
        ],
        [
            not_ours("host_table"),
            Error("the same table twice", "INVALID_ARGUMENT", "host_table", found="host_table",
                  where=lambda scene: scene.frame),
        ],
    ],
    "reclaim_block": [
        BLOCKS,
        [not_ours("block"), SPLIT_BLOCK, HOST_BLOCK, WINDOW],
        [Error("of a living VM", "BAD_STATE", found="block", where=lambda scene: scene.live.block(BLOCK_IPA))],
    ],
    "share_accept": [
        SLOTS,
        states(FREE_SLOT, DEAD),
        IPAS,
        [
            Error("no level 2 table", "TABLE_MISSING", 2, {"ipa": RAM + GIB}),
            Error("no level 3 table", "TABLE_MISSING", 3, {"ipa": UNCOVERED}),
            Error("in a block", "ALREADY_MAPPED", 0, {"ipa": BLOCK_IPA + PAGE},
                  first=lambda scene: scene.live.block(BLOCK_IPA)),
            Error("not mapped", "BAD_STATE", 0, {"ipa": IPA}),
            Error("private", "BAD_STATE", 0, {"ipa": IPA}, first=lambda scene: scene.live.page(IPA)),
            Error("accepted", "BAD_STATE", first=Scene.accept),
        ],
    ],
    "share_release": [
        SLOTS,
        states(FREE_SLOT, DEAD),
        IPAS,
        [
            Error("no level 2 table", "TABLE_MISSING", 2, {"ipa": RAM + GIB}),
            Error("no level 3 table", "TABLE_MISSING", 3, {"ipa": UNCOVERED}),
            Error("in a block", "ALREADY_MAPPED", 0, {"ipa": BLOCK_IPA},
                  first=lambda scene: scene.live.block(BLOCK_IPA)),
            Error("not mapped", "BAD_STATE", 0, {"ipa": IPA}),
            Error("private", "BAD_STATE", 0, {"ipa": IPA}, first=lambda scene: scene.live.page(IPA)),
        ],
    ],
    "dma_allow": [BLOCKS, [not_ours("block"), SPLIT_BLOCK, VM_BLOCK, WINDOW]],
    "dma_revoke": [BLOCKS, [not_ours("block"), SPLIT_BLOCK, VM_BLOCK, HOST_BLOCK]],
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


@pytest.mark.host  # the order of checks is the same code on every machine; each error alone is tried on all
@pytest.mark.parametrize(("call", "first", "second"), PAIRS, ids=name)
def test_of_two_errors_the_first_counts(scene: Scene, call: str, first: Error, second: Error) -> None:
    first.first(scene)
    second.first(scene)
    arguments = scene.good(call) | second.broken(scene) | first.broken(scene)
    scene.machine.refuses(call, first.status, first.detail, **arguments)


@pytest.mark.parametrize("call", ERRORS)
def test_without_an_error_the_call_succeeds(scene: Scene, call: str) -> None:
    scene.machine.ok(call, **scene.good(call))
