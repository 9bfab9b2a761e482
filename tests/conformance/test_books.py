"""What stands in for the engine's records where nobody can read them says the same as they do where one can."""

from __future__ import annotations

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.testing.books import Books, Known, Records
from bulkhead.conformance.testing.builder import dismantle
from bulkhead.conformance.testing.reach import Reach
from bulkhead.inspect.records import OF_A_VM, Kind
from native.scene import RAM, Scene
from native.test_priority import ERRORS

pytestmark = pytest.mark.raw_memory
KINDS = (*OF_A_VM, Kind.HOST, Kind.HOST_TABLE)


def with_books(machine: Machine) -> Machine:
    """The same machine, of which the host knows only what it has done itself."""
    return Machine(machine.backend, Books(machine.layout, machine.blocks(Kind.HOST)))


def told(known: Known, shared: bool) -> dict[int | str, object]:
    """All that can be asked, but for what only the engine knows (parents, slots of tables, its own frames)."""
    answers: dict[int | str, object] = {}
    for kind in (Kind.HOST, Kind.DMA, Kind.SPLIT, Kind.VM_PAGE):
        answers[kind.name] = known.blocks(kind)
    for slot in range(64):
        answers[f"VM {slot}"] = known.vm(slot)
    for frame in known.frames(KINDS):
        record = known.frame(frame)
        answers[frame] = (record.kind, record.level, record.vm, record.shared if shared else 0)
    for block in known.blocks(Kind.SPLIT):
        answers[f"table of {block}"] = known.host_table(block)
    return answers


@pytest.mark.parametrize("call", ERRORS)
def test_books_agree_with_records(machine: Machine, call: str) -> None:
    other = with_books(machine)
    scene = Scene.set(other)
    other.ok(call, **scene.good(call))
    machine.needs_reset = other.needs_reset
    by_guest = machine.backend.name != "host"  # whose calls by VMs leave no exit that a host could see
    assert told(other.known, by_guest) == told(Records(machine), by_guest)


def test_a_machine_is_dismantled_from_the_books(machine: Machine) -> None:
    other = with_books(machine)
    scene = Scene.set(other)
    assert {scene.window(), scene.vm_block, scene.accept()}
    dismantle(other)
    assert list(Records(machine).frames(OF_A_VM)) == []
    assert machine.blocks(Kind.DMA) == machine.blocks(Kind.VM_PAGE) == []


def test_reach_is_what_records_grant(machine: Machine) -> None:
    scene = Scene.set(machine)
    owned = set(scene.owned().values())
    reached = Reach.take(machine.backend, machine.blocks(Kind.SPLIT)).reached
    for block in machine.blocks(Kind.SPLIT):
        for frame in range(block, block + BLOCK, PAGE):
            assert reached[frame] == machine.frame_record(frame).is_hosts, hex(frame)
    assert len(owned & set(reached)) > 8


def test_a_frame_that_moved_is_a_change(machine: Machine) -> None:
    scene = Scene.set(machine)
    split = machine.blocks(Kind.SPLIT)
    before = Reach.take(machine.backend, split)
    assert not before.changes(Reach.take(machine.backend, split))
    machine.ok("map", **scene.good("map"))
    changes = before.changes(Reach.take(machine.backend, split))
    assert changes
    assert (changes.lost, changes.gained) == ((scene.frame,), ())
    assert str(changes) == f"the host no longer reaches {scene.frame:#x}"
    machine.ok("reclaim", frame=scene.dead.pages[RAM])
    changes = before.changes(Reach.take(machine.backend, split))
    assert changes.gained == (scene.dead.pages[RAM],)
