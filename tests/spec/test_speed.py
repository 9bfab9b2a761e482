"""How fast the specification runs on plain integers, and that its layers of changes are what they should be."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bulkhead.spec import CALLS, STEPS, Config, State, plain
from bulkhead.spec.plain import PlainMap, Sparse
from bulkhead.spec.transaction import SUCCESS

RAM, IPA, PAGES = 0x4000_0000, 0x4000_0000, 24
TABLE = 1 << 9
SPEED = 20_000
"""Steps a second that the specification must take, successes and refusals together."""
Call = tuple[str, dict[str, int]]
NO_RANGES = {f"ram{number}_{part}": 0 for number in (1, 2, 3) for part in ("base", "size")}


def address(frame: int) -> int:
    return RAM + (frame << 12)


def initial(blocks: int) -> State:
    """Block 1 is split, all others are the host's."""
    frames = {TABLE + offset: 1 for offset in range(512)} | {TABLE: 5 | 1 << 36}
    leaves = {TABLE << 9 | offset: address(TABLE + offset) | 0x7FF for offset in range(1, 512)}
    entries = {block: address(block << 9) | 0x7FD for block in range(blocks)} | {1: address(TABLE) | 3}
    kinds = dict.fromkeys(range(blocks), 1) | {1: 15}
    config = Config(RAM, blocks << 9, has_dma=1)
    return plain.from_words(config, kinds, frames, entries, {}, {}, leaves)


def life() -> Iterator[Call]:
    """All that a VM goes through, and after each call one or two that are refused."""
    root = address(TABLE + 1)
    yield "vm_create", {
        "vm": 0, "root": root, "vcpus": 1, "flags": 0, "ram0_base": IPA, "ram0_size": 1 << 30, **NO_RANGES,
    }  # fmt: skip
    yield "table_donate", {"vm": 0, "ipa": IPA, "level": 2, "table": address(TABLE + 2)}
    yield "table_donate", {"vm": 0, "ipa": IPA, "level": 3, "table": address(TABLE + 3)}
    for page in range(PAGES):
        mapping = {"vm": 0, "ipa": IPA + (page << 12), "frame": address(TABLE + 4 + page), "mode": page & 1}
        yield "map", mapping
        yield "map", mapping
        yield "map", mapping | {"frame": address(TABLE + 40)}
    yield "map_block", {"vm": 0, "ipa": IPA + (2 << 20), "block": address(2 << 9)}
    yield "vcpu_create", {"vm": 0, "index": 0, "frame": address(TABLE + 41)}
    yield "vcpu_set_entry", {"vcpu": address(TABLE + 41), "entry": IPA, "context": 1}
    yield "activate", {"vm": 0}
    for page in range(PAGES):
        place = {"vm": 0, "ipa": IPA + (page << 12)}
        yield "share", place | {"zero2": 0, "zero3": 0}
        yield "share_accept", place
        yield "share_release", place
        yield "share_release", place
    yield "vm_kill", {"vm": 0}
    for page in range(PAGES):
        yield "reclaim", {"frame": address(TABLE + 4 + page)}
        yield "reclaim", {"frame": address(TABLE + 4 + page)}
        yield "vm_destroy", {"vm": 0}
    yield "reclaim_block", {"block": address(2 << 9)}
    yield "reclaim", {"frame": address(TABLE + 41)}
    yield "table_reclaim", {"table": address(TABLE + 3)}
    yield "table_reclaim", {"table": address(TABLE + 2)}
    yield "vm_destroy", {"vm": 0}


def live(state: State, calls: list[Call]) -> tuple[float, int]:
    """Seconds of CPU time that the calls take, and how many succeed."""
    definitions = CALLS | STEPS
    successes = 0
    start = time.thread_time()
    for name, arguments in calls:
        outcome = definitions[name](state, **arguments)
        successes += outcome.status == SUCCESS
        state = plain.commit(outcome)
    return time.thread_time() - start, successes


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [8, 4096])
def test_the_specification_is_fast_however_large_the_machine(blocks: int) -> None:
    state, calls = initial(blocks), list(life())
    best = 0.0
    for _ in range(40):
        seconds, successes = live(state, calls)
        assert 0.4 < successes / len(calls) < 0.7
        best = max(best, len(calls) / seconds)
        if best > 2 * SPEED:
            break
    assert best > SPEED, f"{best:.0f} steps a second"


def test_a_life_leaves_the_state_as_it_was() -> None:
    state = initial(8)
    live(state, list(life()))
    fresh = initial(8)
    for frame in range(TABLE, TABLE + 512):
        assert state.frame[frame] == fresh.frame[frame]
    assert all(state.ram[TABLE << 9 | offset] == fresh.ram[TABLE << 9 | offset] for offset in range(512))
    assert all(state.vm[word] == 0 for word in range(64))


def test_layers() -> None:
    ground = Sparse({1: 10}, lambda key: -key)
    below = PlainMap(ground)
    above = below.copy()
    above.set(1, 11, True)
    above.set(2, 12, False)
    assert (above[1], above[2], below[1]) == (11, -2, 10)
    above.fill(0, 4, lambda offset: 100 + int(str(offset)), True)
    assert [above[key] for key in range(5)] == [100, 101, 102, 103, -4]
    above.set(3, 13, True)
    top = above.copy()
    top.fill_same(2, 2, 0, True)
    assert (top[3], above[3], top[1], list(top.words(0, 4))) == (0, 13, 101, [100, 101, 0, 0])
    assert (dict(above.changed()), [span.keys for span in above.spans()]) == ({3: 13}, [range(4)])
    top.merge()
    above.merge()
    assert ([below[key] for key in range(5)], dict(above.changed())) == ([100, 101, 0, 0, -4], {})
