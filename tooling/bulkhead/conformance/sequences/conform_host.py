"""Conformance runs on the host backend: machine after machine, in several processes. Trust label: TOOL."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import Future, ProcessPoolExecutor
from ctypes import c_uint64
from random import Random
from typing import Any

from bulkhead.conformance.sequences import regressions
from bulkhead.conformance.sequences.found import Failure, Found, Plan, Tell
from bulkhead.conformance.sequences.life import KITS, Life
from bulkhead.errors import BulkheadError

POLL = 0.2
"""Seconds between two looks at how far the processes are."""
_progress: Any = None
"""Calls made so far, by process; the last word is 1 when one has failed, and the others should end."""


def run(plan: Plan, tell: Tell) -> Found:
    """Carries out a plan; the first failure ends it."""
    if plan.jobs == 1:
        return work(plan, 0, tell)
    context = multiprocessing.get_context("spawn")
    progress = context.Array(c_uint64, plan.jobs + 1)
    with ProcessPoolExecutor(plan.jobs, context, _begin, (progress,)) as pool:
        parts = [pool.submit(_work, plan, number) for number in range(plan.jobs)]
        _wait(parts, progress, tell)
    found = Found()
    for part in parts:
        found.join(part.result())
    return found


def work(plan: Plan, number: int, tell: Tell) -> Found:
    """The share of process `number`."""
    found, share = Found(), plan.calls // plan.jobs
    while found.calls < share:
        machine = found.machines.total()
        kit = KITS[machine % len(KITS)]
        life = Life(kit, Random(f"{plan.seed}/{number}/{machine}"), found.pairs)
        try:
            life.run(share - found.calls)
        except (AssertionError, BulkheadError) as error:
            steps, message = regressions.shrunk(kit, life.history, str(error))
            found.failures.append(Failure(message, kit, tuple(steps)))
        found.add(life)
        if tell(found.calls) or found.failures:
            break
    return found


def _begin(progress: Any) -> None:
    global _progress
    _progress = progress


def _work(plan: Plan, number: int) -> Found:
    """In a process of its own."""

    def tell(calls: int) -> bool:
        _progress[number] = calls
        return bool(_progress[plan.jobs])

    found = work(plan, number, tell)
    if found.failures:
        _progress[plan.jobs] = 1
    return found


def _wait(parts: list[Future[Found]], progress: Any, tell: Tell) -> None:
    """Until all have ended."""
    while not all(part.done() for part in parts):
        tell(sum(progress[: len(parts)]))
        time.sleep(POLL)
