"""States that random steps seldom reach, built step by step: what the rare pairs need.

Trust label: TOOL. A scene yields steps one after the other, each made for the state that the earlier ones have left;
others may come between them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.sequences.propose import Proposer
from bulkhead.conformance.sequences.steps import Step
from bulkhead.conformance.sequences.values import RAM, RANGES, SLOTS
from bulkhead.spec import ARGUMENTS
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import VCPUS_MAX, Kind, VmState, VmWord

Scene = Callable[[Proposer], Iterator[Step]]


def running(p: Proposer, vcpus: int = 1) -> Iterator[Step]:
    """A VM that runs, with some pages and perhaps a block."""
    slot = yield from created(p, vcpus, p.random.choice((0, 2, 2)))
    for level in (2, 3):
        yield p.step("table_donate", {"vm": slot, "ipa": RAM, "level": level, "table": p.host_frame()})
    for number in range(p.random.randrange(1, 5)):
        page = {"vm": slot, "ipa": RAM + number * PAGE, "frame": p.host_frame(), "mode": number & 1}
        yield p.step("map", page)
    if p.random.random() < 0.4 and (block := p.block(Kind.HOST)) is not None:
        yield p.step("map_block", {"vm": slot, "ipa": RAM + BLOCK, "block": block})
    for index in range(vcpus):
        yield p.step("vcpu_create", {"vm": slot, "index": index, "frame": p.host_frame()})
    if first := p.word(slot, VmWord.VCPU):
        yield p.step("vcpu_set_entry", {"vcpu": p.address(first - 1), "entry": RAM, "context": 0})
    yield p.step("activate", {"vm": slot})


def sharing(p: Proposer) -> Iterator[Step]:
    """A running VM that shares, and a host that accepts; perhaps it dies meanwhile."""
    yield from running(p)
    for name in (
        "share",
        "share",
        "share_accept",
        "share_accept",
        "unshare",
        "share",
        "share_accept",
        "share_release",
    ):
        if (step := p.likely(name)) is not None:
            yield step
    if p.random.random() < 0.5:
        yield from dying(p)


def loaded(p: Proposer) -> Iterator[Step]:
    """A vCPU that is loaded when its VM dies."""
    yield from running(p)
    if (step := p.likely("vcpu_run")) is not None:
        yield step
        yield from dying(p)
        yield p.step("reclaim", {"frame": step.arguments["vcpu"]})


def dying(p: Proposer) -> Iterator[Step]:
    """VMs that are killed, and lose some of what they have."""
    if (step := p.likely("vm_kill")) is not None:
        yield step
    for _ in range(p.random.randrange(6)):
        if (step := p.likely("reclaim")) is not None:
            yield step


def incomplete(p: Proposer) -> Iterator[Step]:
    """A VM with eight vCPUs that come one by one; it cannot be activated before all are there, and vCPU 0 has its
    entry.
    """
    slot = yield from created(p, VCPUS_MAX)
    for index in range(VCPUS_MAX):
        yield p.step("activate", {"vm": slot})
        yield p.step("vcpu_create", {"vm": slot, "index": index, "frame": p.host_frame()})
    yield p.step("activate", {"vm": slot})


def remains(p: Proposer) -> Iterator[Step]:
    """A dying VM that loses its vCPUs one by one; it cannot be destroyed before."""
    slot = yield from created(p, VCPUS_MAX)
    for index in p.random.sample(range(VCPUS_MAX), VCPUS_MAX - 1):
        yield p.step("vcpu_create", {"vm": slot, "index": index, "frame": p.host_frame()})
    yield p.step("vm_kill", {"vm": slot})
    for index in range(VCPUS_MAX):
        if context := p.word(slot, VmWord.VCPU + index):
            yield p.step("vm_destroy", {"vm": slot})
            yield p.step("reclaim", {"frame": p.address(context - 1)})


def tables_left(p: Proposer) -> Iterator[Step]:
    """A dying VM without vCPUs that has tables yet."""
    slot = yield from created(p, 1)
    yield p.step("table_donate", {"vm": slot, "ipa": RAM, "level": 2, "table": p.host_frame()})
    yield p.step("vm_kill", {"vm": slot})
    yield p.step("vm_destroy", {"vm": slot})


def host_split(p: Proposer) -> Iterator[Step]:
    """A block of the host that becomes frames."""
    if not p.is_much_split() and (step := p.likely("host_split")) is not None:
        yield step


def vm_block(p: Proposer) -> Generator[Step, None, int | None]:
    """A VM with a block, if there is one that may be split; the block."""
    block = p.block(Kind.HOST)
    if block is None or p.is_much_split():
        return None
    slot = yield from created(p, 1)
    yield p.step("table_donate", {"vm": slot, "ipa": RAM, "level": 2, "table": p.host_frame()})
    yield p.step("map_block", {"vm": slot, "ipa": RAM, "block": block})
    return block


def vm_split(p: Proposer) -> Iterator[Step]:
    """A block of a VM that becomes pages, which come back one by one."""
    if (block := (yield from vm_block(p))) is not None:
        yield p.step("vm_split", {"block": block, "table": p.host_frame(), "host_table": p.host_frame()})


def created(p: Proposer, vcpus: int, size: int = 2) -> Generator[Step, None, int]:
    """A VM under construction with these ranges of RAM; the slot."""
    free = [slot for slot in SLOTS if p.word(slot, VmWord.STATE) == VmState.FREE]
    slot = p.random.choice(free or SLOTS)
    ranges = dict(zip(ARGUMENTS["vm_create"][4:], RANGES[size], strict=True))
    yield p.step("vm_create", {"vm": slot, "root": p.host_frame(), "vcpus": vcpus, "flags": 0, **ranges})
    return slot


SCENES: tuple[tuple[Scene, float], ...] = (
    (running, 0.15), (sharing, 0.25), (loaded, 0.1), (incomplete, 0.14), (remains, 0.12), (tables_left, 0.03),
    (host_split, 0.06), (vm_block, 0.05), (lambda p: running(p, 8), 0.05), (lambda p: running(p, 2), 0.05),
)  # fmt: skip
"""Scenes, and how often each opens a sequence."""
SCENES_OF: dict[str | Pair, tuple[Scene, ...]] = {
    Pair("vm_split", "SUCCESS"): (vm_split,), "vm_split": (vm_block,),
    "vm_destroy": (remains, remains, remains, tables_left), "activate": (incomplete,), "host_split": (host_split,),
    "reclaim": (loaded,),
    **dict.fromkeys(("share", "unshare", "relinquish", "share_accept"), (sharing,)),
}  # fmt: skip
"""Pairs, and calls and steps with pairs, that need others before them → scenes with those."""
