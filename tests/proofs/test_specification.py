"""The specification on plain integers: a VM's whole life, with the invariants checked at every key on the way."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from bulkhead.abi import load
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Config, Outcome, State, plain, promises
from bulkhead.spec.invariants import INVARIANTS
from bulkhead.spec.state import HOST, VM_SLOTS, Kind, Shared, VmState, VmWord
from bulkhead.spec.transaction import STATUS
from bulkhead.spec.words import Word

RAM = 0x4000_0000
BLOCKS = 5
ENGINE_BLOCK, SPLIT_BLOCK, HOST_BLOCK, UNCLEARED_BLOCK = 0, 1, 2, 4
TABLE = SPLIT_BLOCK << 9
UNUSED_RANGES: dict[str, Any] = {
    f"ram{number}_{part}": 0 for number in (1, 2, 3) for part in ("base", "size")
}


def address(frame: int) -> int:
    return RAM + (frame << 12)


def initial() -> State:
    """Five blocks: the engine's, one split with its table in its first frame, two of the host, one not touched yet."""
    frames = {TABLE + offset: 1 for offset in range(512)} | {TABLE: 5 | SPLIT_BLOCK << 36}
    leaves = {TABLE << 9 | offset: address(TABLE + offset) | 0x7FF for offset in range(1, 512)}
    entries = {SPLIT_BLOCK: address(TABLE) | 3} | {
        block: address(block << 9) | 0x7FD for block in (HOST_BLOCK, HOST_BLOCK + 1)
    }
    kinds = {ENGINE_BLOCK: 0, SPLIT_BLOCK: 15, HOST_BLOCK: 1, HOST_BLOCK + 1: 1, UNCLEARED_BLOCK: 6}
    return plain.from_words(Config(RAM, BLOCKS << 9, has_dma=1), kinds, frames, entries, {}, {}, leaves)


def broken_invariants(state: State) -> list[tuple[str, int]]:
    """Every invariant at every key that matters in this small machine."""
    ram = [frame << 9 | offset for frame in range(TABLE, TABLE + 16) for offset in range(512)]
    keys = {
        "block": range(BLOCKS),
        "frame": range(BLOCKS << 9),
        "host_leaf": range(BLOCKS << 9),
        "entry": ram,
        "vm_word": range(4 * VmWord.COUNT),
        "vm": range(VM_SLOTS),
    }
    return [
        (name, key)
        for name, invariant in INVARIANTS.items()
        for key in keys[name]
        if not invariant(state, key)
    ]


class Machine:
    """A state and the calls made on it."""

    def __init__(self) -> None:
        self.state = initial()

    def call(self, name: str, expected: str = "SUCCESS", **arguments: Word) -> Outcome:
        before = self.state
        outcome = (CALLS | STEPS)[name](before, **arguments)
        assert outcome.status == STATUS[expected], f"{name} answers {outcome.status}"
        if expected != "SUCCESS":
            assert outcome.state is before and outcome.happened == ()
        self.state = outcome.state
        return outcome

    def create(self, vm: int = 0) -> None:
        self.call(
            "vm_create", vm=vm, root=address(TABLE + 1), vcpus=1, flags=0,
            ram0_base=0x4000_0000, ram0_size=1 << 30, **UNUSED_RANGES,
        )  # fmt: skip

    def donate_tables(self) -> None:
        self.call("table_donate", vm=0, ipa=0x4000_0000, level=2, table=address(TABLE + 2))
        self.call("table_donate", vm=0, ipa=0x4000_0000, level=3, table=address(TABLE + 3))

    def map(self, frame: int, page: int, expected: str = "SUCCESS", mode: int = 0) -> Outcome:
        return self.call(
            "map", expected, vm=0, ipa=0x4000_0000 + (page << 12), frame=address(frame), mode=mode
        )


def test_arguments_are_those_of_the_call_table() -> None:
    for name in CALLS:
        assert ARGUMENTS[name] == load().call(name).args


def test_life_of_a_vm_keeps_the_invariants() -> None:
    machine = Machine()
    assert broken_invariants(machine.state) == []
    machine.create()
    machine.map(TABLE + 4, 0, "TABLE_MISSING")
    machine.donate_tables()
    machine.map(TABLE + 4, 0, mode=1)
    machine.map(TABLE + 5, 1)
    machine.call("vcpu_create", vm=0, index=0, frame=address(TABLE + 6))
    machine.call("vcpu_set_entry", vcpu=address(TABLE + 6), entry=0x4000_0000, context=1)
    assert broken_invariants(machine.state) == []
    machine.call("activate", vm=0)
    machine.map(TABLE + 4, 2, "NOT_OWNED")
    machine.map(HOST_BLOCK << 9, 2, "NEEDS_SPLIT")
    machine.call("host_split", block=address(HOST_BLOCK << 9), table=address(TABLE + 7))
    machine.map(HOST_BLOCK << 9, 2)
    assert broken_invariants(machine.state) == []
    machine.call("reclaim", "BAD_STATE", frame=address(TABLE + 4))
    machine.call("vm_kill", vm=0)
    for frame in (TABLE + 4, TABLE + 5, HOST_BLOCK << 9, TABLE + 6):
        machine.call("reclaim", frame=address(frame))
    machine.call("table_reclaim", "NOT_EMPTY", table=address(TABLE + 2))
    machine.call("table_reclaim", table=address(TABLE + 3))
    machine.call("table_reclaim", table=address(TABLE + 2))
    machine.call("vm_destroy", vm=0)
    assert broken_invariants(machine.state) == []
    assert machine.state.frame[TABLE + 4] == HOST
    assert machine.state.vm_word(0, VmWord.STATE) == VmState.FREE


def broken_promises(state: State) -> list[tuple[str, int]]:
    """What the hardware reaches and should not, at every address that matters in this small machine."""
    frames = range(BLOCKS << 9)
    pages = [0x4000_0000 + offset >> 12 for offset in (0, 0x1000, 0x2000, 0x1F_F000, 0x20_0000, 0x20_1000)]
    return [
        *(("host", frame) for frame in frames if not promises.host_reach(state, frame)),
        *(("devices", frame) for frame in frames if not promises.device_reach(state, frame)),
        *(("VM", page) for page in pages if state.vm_word(0, 0) and not promises.vm_reach(state, 0, page)),
    ]


def test_blocks_and_sharing_keep_invariants_and_promises() -> None:
    machine = Machine()
    machine.create()
    machine.donate_tables()
    machine.map(TABLE + 4, 0)
    page, whole = {"vm": 0, "ipa": 0x4000_0000}, {"vm": 0, "ipa": 0x4020_0000}
    step = page | {"zero2": 0, "zero3": 0}
    machine.call("map_block", block=address(UNCLEARED_BLOCK << 9), **whole)
    machine.call("first_touch", "NOT_OWNED", block=UNCLEARED_BLOCK)
    machine.call("share", **step)
    assert machine.call("share_accept", **page).results == (address(TABLE + 4),)
    machine.call("dma_allow", block=address(HOST_BLOCK << 9))
    assert (broken_invariants(machine.state), broken_promises(machine.state)) == ([], [])
    outcome = (CALLS | STEPS)["share"](machine.state, **step | whole)
    assert (outcome.needs[-1].exits, outcome.needs[-1].status) == (True, "NEEDS_SPLIT")
    tables = {"table": address(TABLE + 8), "host_table": address(TABLE + 9)}
    machine.call("vm_split", block=address(UNCLEARED_BLOCK << 9), **tables)
    machine.call("share", **step | whole)
    machine.call("relinquish", **step | whole)
    machine.call("unshare", **step)
    machine.call("share_accept", "BAD_STATE", **page)
    assert machine.state.frame[TABLE + 4].shared == Shared.PRIVATE
    assert machine.state.frame[UNCLEARED_BLOCK << 9] == HOST
    machine.call("dma_revoke", block=address(HOST_BLOCK << 9))
    assert machine.state.block[HOST_BLOCK] == HOST
    assert (broken_invariants(machine.state), broken_promises(machine.state)) == ([], [])


def test_promises_notice_what_is_reached_without_a_record() -> None:
    """Leaves written past the records, for each kind of domain."""
    machine = Machine()
    machine.create()
    machine.donate_tables()
    machine.map(TABLE + 4, 0)
    wrong = machine.state.copy()
    wrong.ram.set(TABLE << 9 | 4, address(TABLE + 4) | 0x7FF, True)
    wrong.dma_entry.set(HOST_BLOCK, address(HOST_BLOCK << 9) | 0x7FD, True)
    wrong.ram.set((TABLE + 3) << 9 | 1, address(TABLE + 5) | 0x7FF, True)
    wrong.host_entry.set(UNCLEARED_BLOCK, address(UNCLEARED_BLOCK << 9) | 0x7FD, True)
    found = broken_promises(wrong)
    assert ("host", TABLE + 4) in found and ("host", UNCLEARED_BLOCK << 9) in found
    assert ("devices", HOST_BLOCK << 9) in found and ("VM", 0x40001) in found


def test_promises_notice_a_step_that_tells_or_changes_too_much() -> None:
    machine = Machine()
    machine.create()
    machine.donate_tables()
    machine.map(TABLE + 4, 0)
    before, word = machine.state, (TABLE + 4) << 9
    after = before.copy()
    after.ram.set(word, 1, True)
    assert not promises.integrity(before, after, word, None)
    assert not promises.integrity(before, after, word, 1)
    assert promises.integrity(before, after, word, 0)
    given = after.copy()
    given.frame.set(TABLE + 4, HOST, True)
    assert not promises.secrecy(after, given, word)
    assert promises.secrecy(before, given, word + 1)
    accepted = after.copy()
    accepted.frame.set(TABLE + 4, after.frame[TABLE + 4]._replace(shared=Shared.ACCEPTED), True)
    assert not promises.secrecy(after, accepted, word)
    assert promises.owner(after, TABLE + 4).kind == Kind.VM_PAGE


def test_invariants_notice_a_page_that_no_record_names() -> None:
    """A leaf written past the records, as an engine without checks would."""
    machine = Machine()
    machine.create()
    machine.donate_tables()
    wrong = machine.state.copy()
    wrong.ram.set((TABLE + 3) << 9, address(TABLE + 9) | 0x7FF, True)
    assert ("entry", (TABLE + 3) << 9) in broken_invariants(wrong)
    doubled = machine.state.copy()
    doubled.frame.set(TABLE + 9, HOST._replace(kind=2, parent=TABLE + 3), True)
    assert ("frame", TABLE + 9) in broken_invariants(doubled)


def test_measurement_is_sha256_of_the_steps() -> None:
    machine = Machine()
    machine.create()
    measured = b"\0" * 32
    for step in [(1, 1, 0, 0), (2, 0x4000_0000, 1 << 30, 0), (2, 0, 0, 1), (2, 0, 0, 2), (2, 0, 0, 3)]:
        measured = hashlib.sha256(measured + b"".join(word.to_bytes(8, "little") for word in step)).digest()
    words = [machine.state.vm_word(0, VmWord.MEASUREMENT + position) for position in range(4)]
    assert words == [int.from_bytes(measured[start : start + 8], "little") for start in range(0, 32, 8)]


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"vm": 64}, 1),
        ({"ipa": 0x4000_0001}, 2),
        ({"ipa": 0x3FFF_F000}, 2),
        ({"frame": RAM - 0x1000}, 3),
        ({"mode": 2}, 4),
    ],
)
def test_invalid_arguments_are_named_by_their_register(changed: dict[str, Word], detail: int) -> None:
    machine = Machine()
    machine.create()
    arguments: dict[str, Word] = {
        "vm": 0, "ipa": 0x4000_0000, "frame": address(TABLE + 4), "mode": 0,
    }  # fmt: skip
    outcome = machine.call("map", "INVALID_ARGUMENT", **(arguments | changed))
    assert outcome.detail == detail
