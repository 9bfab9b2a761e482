"""`inv histories`: so many histories on QEMU, or one program again and again. Trust label: TOOL."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from random import Random

from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.image.build import Images, build
from bulkhead.provision import qemu
from bulkhead.report import baselines, results

from . import story
from .campaign import Counts, Ground, Judged, count
from .search import Unexplained

CPUS = (2, 4)
"""Numbers of CPUs, and the share of histories that the larger one gets."""
SHARE_OF_FOUR = 0.1
FULL = 5000
"""Histories of a full run."""
TRIES = 300
"""How often a saved program is carried out."""


def main(number: int, seed: int = 0, replay: str = "", keep: bool = False) -> None:
    """Carry out and judge `number` histories, or the program of a file; `keep`: what was found becomes a claim.

    Raises CheckFailed, with the story and how to repeat it, if a history has no explanation.
    """
    if replay:
        again(Path(replay))
    else:
        carry_out(number, seed or secrets.randbelow(1 << 32), keep=keep)


def carry_out(number: int, seed: int, *, keep: bool = False) -> dict[int, Counts]:
    """So many histories, kept for the report: what was seen, by number of CPUs. Raises as `main`."""
    if number < 1:
        raise InvalidInput(f"{number} histories", hint="at least one")
    began = time.monotonic()
    command = f"inv histories --count {number} --seed {seed}"
    images = build("pinned", "payload")
    of_four = int(number * SHARE_OF_FOUR)
    by_cpus = {cpus: Counts() for cpus in CPUS}
    with results.failing("histories", "qemu", command=command, reduced=number < FULL):
        for cpus, share in zip(CPUS, (number - of_four, of_four), strict=True):
            run(images, cpus, share, f"{seed}/{cpus}", by_cpus[cpus])
    seconds = time.monotonic() - began
    data = summary(sum(by_cpus.values(), Counts()))
    results.write("histories", "qemu", data, command=command, seconds=seconds, reduced=number < FULL)
    if keep:
        baselines.keep("histories", {**data, "seed": seed})
    for cpus, counts in by_cpus.items():
        print(f"{cpus} CPUs: {describe(counts)}")
    print(f"{seconds:.0f} s; seed {seed}")
    return by_cpus


def run(images: Images, cpus: int, number: int, seed: str, counts: Counts) -> None:
    """`number` histories on so many CPUs of one machine. Raises CheckFailed."""
    if number == 0:
        return
    backend = QemuBackend(images, str(qemu.ensure()), cpus=cpus)
    try:
        ground = Ground(backend, Random(seed), cpus)
        for _ in range(number):
            judged = ground.next()
            count(counts, judged)
            require(judged)
        ground.check()
    finally:
        backend.close()


def require(judged: Judged) -> None:
    """Raises CheckFailed unless there is an explanation."""
    if isinstance(judged.verdict, Unexplained):
        told = story.tell(judged.history, judged.verdict)
        path = story.save(judged.program, told)
        raise CheckFailed(told, where=path, hint=f"the same program again: inv histories --replay {path}")


def again(path: Path) -> None:
    """Carry out the program of a file up to TRIES times: CPUs do not meet alike each time. Raises CheckFailed."""
    program = story.load(path)
    backend = QemuBackend(build("pinned", "payload"), str(qemu.ensure()), cpus=max(program.cpus, CPUS[0]))
    try:
        ground = Ground(backend, Random(0), program.cpus)
        for _ in range(TRIES):
            require(ground.carry_out(ground.place(program)))
    finally:
        backend.close()
    print(f"{TRIES} times explained")


def summary(counts: Counts) -> dict[str, object]:
    """For the report."""
    return {
        "cpus": list(CPUS),
        "histories": counts.histories,
        "explained": counts.explained,
        "calls": counts.calls,
        "overlapping": counts.overlapping,
        "reordered": counts.reordered,
        "busy": counts.busy,
        "outcomes": dict(sorted(counts.outcomes.items())),
    }


def describe(counts: Counts) -> str:
    """A line for people."""
    return (
        f"{counts.explained} of {counts.histories} histories explained: {counts.calls} steps at once, "
        f"{counts.overlapping} histories in which some overlapped, {counts.reordered} explained only by another "
        f"order than that of their beginnings, {counts.busy} times BUSY because of the lock"
    )
