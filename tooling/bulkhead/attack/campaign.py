"""Carries attacks out: on the shipped image, or on engines without the protection that each names.

Trust label: TOOL. A worker is a thread with a machine of its own, on which it carries out one attack after the other;
between two of them the ground is checked clean, and booted anew if it is not.
"""

from __future__ import annotations

import importlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bulkhead.attack import catalogue
from bulkhead.attack.declaration import Attack, Machine
from bulkhead.errors import MachineTimeout
from bulkhead.image.build import Images, build
from bulkhead.image.variant import Edit, build_variant

WORKERS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
"""Machines at a time; where two test processes run, each has one."""
TRIES = 3
"""How often an attack is carried out on an engine without its protection until it succeeds: some are races."""


class Outcome(Enum):
    """How an attack ended."""

    REFUSED = "refused"
    SUCCEEDED = "succeeded"
    """An assertion of tests/attack says in words what was reached, and the engine has not panicked meanwhile."""
    TRACES = "left traces"
    """The attack itself found nothing, but the machine was not as it must be afterwards."""
    BROKEN = "broken"
    """None of these: no build, a panic, a machine that hangs, a call that failed on the way to the attack."""


@dataclass(frozen=True)
class Result:
    """`reached`: what the attack got at, or what broke, and `place` the file and line that say so. `seconds`: of the
    attack, without build and boot."""

    attack: Attack
    outcome: Outcome
    reached: str
    seconds: float
    place: str = ""


@dataclass(frozen=True)
class Job:
    """Attacks for one machine."""

    machine: Machine
    edits: tuple[Edit, ...]
    attacks: tuple[Attack, ...]


Ground = Any
"""tests/attack/arena.py, Arena."""
Boot = Callable[[Images, Machine], AbstractContextManager[Ground]]


def shipped(attacks: Sequence[Attack]) -> list[Job]:
    """All attacks on the shipped image, split so that no worker waits for the other. Machines that few attacks need
    come first: who shows results by name has them when their turn comes.
    """
    jobs = []
    for machine in dict.fromkeys(one.machine for one in attacks):
        group = [one for one in attacks if one.machine == machine]
        parts = [group[start::WORKERS] for start in range(WORKERS)]
        jobs += [Job(machine, (), tuple(part)) for part in parts if part]
    return sorted(jobs, key=lambda job: len(job.attacks))


def weakened(attacks: Sequence[Attack]) -> list[Job]:
    """Each attack that names a protection, on an engine without it."""
    able = [one for one in attacks if one.removed]
    kinds = dict.fromkeys((one.machine, one.removed) for one in able)
    return [
        Job(machine, edits, tuple(one for one in able if (one.machine, one.removed) == (machine, edits)))
        for machine, edits in kinds
    ]


class Campaign:
    """Jobs under way. `result` waits for an attack; leaving the `with` block ends everything."""

    def __init__(self, jobs: Sequence[Job], workers: int = WORKERS) -> None:
        self._jobs = jobs
        self._results: dict[str, Future[Result]] = {one.name: Future() for job in jobs for one in job.attacks}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="attack")
        self._stopped = False

    def __enter__(self) -> Campaign:
        catalogue.load()
        boot: Boot = importlib.import_module("attack.arena").Arena.booted
        for job in self._jobs:
            self._pool.submit(self._carry_out, job, boot)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def result(self, attack: Attack, seconds: float = 900) -> Result:
        """How the attack ended. MachineTimeout if that takes too long."""
        try:
            return self._results[attack.name].result(timeout=seconds)
        except TimeoutError:
            raise MachineTimeout(
                f"no result of {attack.name} in {seconds:g} s", hint="this computer is too busy, or a build hangs"
            ) from None

    def _carry_out(self, job: Job, boot: Boot) -> None:
        try:
            images = build_variant(job.edits) if job.edits else build("pinned", "payload")
            with boot(images, job.machine) as ground:
                for one in job.attacks:
                    if not self._stopped:
                        tries = TRIES if job.edits else 1
                        self._results[one.name].set_result(attempt(one, ground, tries))
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must learn of it)
            for one in job.attacks:
                if not self._results[one.name].done():
                    self._results[one.name].set_result(broken(one, error, 0))


def attempt(attack: Attack, ground: Ground, tries: int = 1) -> Result:
    """Carries one attack out, again while it is refused and tries are left."""
    for _ in range(tries):
        result = _attempt_once(attack, ground)
        if result.outcome is not Outcome.REFUSED:
            break
    return result


def _attempt_once(attack: Attack, ground: Ground) -> Result:
    """Carries one attack out, and checks the ground after it."""
    start = time.monotonic()
    try:
        with ground.under(attack):
            attack.carry_out(ground)
    except AssertionError as error:
        seconds, place = time.monotonic() - start, _innermost(error)
        if type(error) is not AssertionError:
            return Result(attack, Outcome.TRACES, str(error), seconds, place)
        own = Path(place.rpartition(":")[0]).is_relative_to(catalogue.TESTS / "attack")
        if not own or not str(error):
            return broken(attack, error, seconds)
        return Result(attack, Outcome.SUCCEEDED, str(error), seconds, place)
    except Exception as error:  # noqa: BLE001 (a test that breaks is a result, not the end of the others)
        return broken(attack, error, time.monotonic() - start)
    return Result(attack, Outcome.REFUSED, "", time.monotonic() - start)


def broken(attack: Attack, error: BaseException, seconds: float) -> Result:
    """An attack that did not come to its verdict: an assertion without words is about the way there."""
    frames = traceback.extract_tb(error.__traceback__)
    here = next((one for one in reversed(frames) if "/tests/" in one.filename), frames[-1])
    what = str(error) or here.line or ""
    return Result(attack, Outcome.BROKEN, f"{type(error).__name__}: {what}", seconds, f"{here.filename}:{here.lineno}")


def _innermost(error: BaseException) -> str:
    """File and line where an error was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


@contextmanager
def under_way(jobs: Sequence[Job]) -> Iterator[Campaign]:
    """A campaign for a `with` block."""
    with Campaign(jobs) as campaign:
        yield campaign
