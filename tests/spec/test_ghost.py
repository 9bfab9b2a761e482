"""The ghost finds words that nobody specified: what the engine wrote at its step, all others at the next full look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle import oracle
from bulkhead.conformance.oracle.oracle import FULL_EVERY, Oracle
from bulkhead.inspect.records import Kind
from bulkhead.spec import CALLS, Outcome

Build = Callable[..., Vm]
RAM = 0x4000_0000


def places(machine: Machine, one: Vm, page: int, whole: int) -> dict[str, int]:
    """Addresses in everything that is compared."""
    layout = machine.layout
    number = (whole - layout.ram_base) // BLOCK
    return {
        "a record of a block": layout.block_records + 8 * number,
        "a record of a frame": layout.frame_records + 8 * machine.index(page),
        "the host's level 2": layout.host_level2 + 8 * number,
        "the devices' level 2": layout.dma_level2 + 8 * number,
        "a record of a VM": layout.vm_records + 8 * 64 * 63,
        "a VM's table": one.tables[3, RAM] + 8 * 511,
        "a page": page + PAGE - 8,
        "a block that was scrubbed": whole + BLOCK - 8,
    }


@pytest.mark.host
@pytest.mark.parametrize(
    "what",
    [
        "a record of a block", "a record of a frame", "the host's level 2", "the devices' level 2", "a record of a VM",
        "a VM's table", "a page", "a block that was scrubbed",
    ],
)  # fmt: skip
def test_a_word_changed_behind_its_back_is_found_by_the_next_full_look(
    machine: Machine, vm: Build, what: str
) -> None:
    one = vm()
    page, whole = one.page(RAM), machine.take_block()
    judge = Oracle(machine)
    assert judge.step("map_block", vm=0, ipa=RAM + BLOCK, block=whole).status == "SUCCESS"
    address = places(machine, one, page, whole)[what]
    machine.backend.poke(address, (1 << 40).to_bytes(8, "little"))
    try:
        judge.step("map", vm=0, ipa=0, frame=0, mode=0)
        with pytest.raises(
            AssertionError, match=r"is (FrameRecord.*parent=16|0x\w+, which is no record|0x100\w+)"
        ):
            judge.check()
    finally:
        right = judge.ghost.image.part((address - machine.layout.ram_base) // 8, 1)
        machine.backend.poke(address, bytes(right))


@pytest.mark.host
def test_all_is_looked_at_every_so_many_steps(machine: Machine, vm: Build) -> None:
    page = vm().page(RAM)
    judge, thorough = Oracle(machine), Oracle(machine, thorough=True)
    assert judge.ghost is not thorough.ghost
    machine.backend.poke(page, b"changed!")
    for _ in range(FULL_EVERY - 1):
        judge.step("vm_kill", vm=64)
    for one in (judge, thorough):
        with pytest.raises(AssertionError, match=f"word 0 of frame {page:#x}"):
            one.step("vm_kill", vm=64)


def differently(name: str, change: Callable[[Any, Outcome], Any]) -> dict[str, Callable[..., Any]]:
    """A specification in which a call changes something else."""

    def changed(state: Any, **arguments: int) -> Any:
        return change(state, CALLS[name](state, **arguments))

    return CALLS | {name: changed}


def without_the_leaf(_: Any, outcome: Outcome) -> Outcome:
    after = outcome.before.copy()
    after.vm.put(outcome.committed.vm.changed())  # type: ignore[attr-defined]  # a PlainMap
    return replace(outcome, committed=after)


def with_a_word_more(state: Any, outcome: Outcome) -> Outcome:
    outcome.committed.dma_entry.set(3, 0x1234, True)
    return outcome


@pytest.mark.raw_memory
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_the_leaf, "entry|record|word"),
        (with_a_word_more, "devices' level 2 entry of block .* specified is 0x1234"),
    ],
)
def test_a_word_that_the_engine_writes_is_found_at_its_step(
    machine: Machine, vm: Build, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    vm().page(RAM)
    # Only the fake machine says which words were written.
    judge = Oracle(machine, thorough=not isinstance(machine.backend, HostBackend))
    judge.step("map", vm=0, ipa=RAM, frame=machine.take(), mode=0)
    monkeypatch.setattr(oracle, "CALLS", differently("map", change))
    frame = machine.take()
    with pytest.raises(AssertionError, match=message) as failure:
        judge.step("map", vm=0, ipa=RAM + PAGE, frame=frame, mode=0)
    lines = str(failure.value).splitlines()
    assert lines[0] == f"map(vm=0x0, ipa={RAM + PAGE:#x}, frame={frame:#x}, mode=0x0)"
    assert "the calls before it:" in lines[-2] and "map(vm=0x0, ipa=0x40000000" in lines[-1]


@pytest.mark.host
def test_first_touches_and_contents_are_followed(machine: Machine, vm: Build) -> None:
    one, backend, layout = vm(), machine.backend, machine.layout
    assert isinstance(backend, HostBackend)
    whole = backend.leave_untouched(1)[0]
    judge = Oracle(machine, thorough=True)
    judge.step("host_split", block=whole, table=machine.take())
    judge.first_touch(whole)
    judge.first_touch(whole)
    assert machine.block_record(whole).kind == Kind.HOST
    judge.ghost.write(machine.take(), b"content!" * 512)
    judge.step("host_split", block=whole, table=machine.take())
    page = machine.take()
    judge.ghost.write(page, b"content!" * 512)
    one.cover(RAM)
    judge.forget()
    assert judge.step("map", vm=0, ipa=RAM, frame=page, mode=1).status == "SUCCESS"
    judge.step("vm_kill", vm=0)
    judge.step("reclaim", frame=page)
    judge.check()
    assert {(name, branch) for name, branch in judge.covered if name == "first_touch"} == {
        ("first_touch", "SUCCESS"), ("first_touch", "1. NOT_OWNED(1)"),
    }  # fmt: skip
    assert layout.blocks > 2
