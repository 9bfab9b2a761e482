"""`inv conform`: random sequences of calls on a backend, each step compared with the specification, every pair counted.

Trust label: TOOL. A backend is a function from a plan to what was found (`BACKENDS`); all else is the same for all.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bulkhead.conformance import conform_host, regressions
from bulkhead.conformance.found import Failure, Found, Plan, Tell
from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.provision.paths import REPOSITORY, in_checkout
from bulkhead.report import baselines, results
from bulkhead.spec import pairs
from bulkhead.spec.pairs import Pair

KIND = "conform"
Run = Callable[[Plan, Tell], Found]
BACKENDS: dict[str, Run] = {"host": conform_host.run}
"""Backend → what carries out a plan on it."""
FULL = {"host": 1_000_000}
"""Calls of a full run, whose result is kept in `ci/baselines`."""
OFTEN, SEQUENCES = 500, 10_000
"""Of each reachable pair, and of sequences that end in full destroy, in a full run on the host backend."""
SUCCESSES = 0.3
"""Share of calls that succeed, at least."""
RAREST = 5
"""Pairs that the terminal shows as the rarest."""


def main(
    backend: str = "host", calls: int = 0, seed: int = 0, jobs: int = 2, replay: str = "", record: bool = False
) -> None:
    """Runs on one backend or on all; with `replay` only the steps of that file. Raises CheckFailed for a difference, a
    pair that was not seen, or too few successes.
    """
    if replay:
        if wrong := regressions.replay_file(Path(replay)):
            raise CheckFailed(wrong, where=replay)
        print(f"{replay}: the machine takes these steps as specified")
        return
    if backend != "all" and backend not in BACKENDS:
        raise InvalidInput(f"there is no backend '{backend}' to conform", hint=f"one of {', '.join(BACKENDS)}, all")
    for name in BACKENDS if backend == "all" else (backend,):
        plan = Plan(name, calls or FULL[name], seed or 1 + secrets.randbelow(1 << 32), jobs)
        check(plan, show(plan), record=record)


def show(plan: Plan, place: Path | None = None) -> Found:
    """Carries out a plan with a progress bar, keeps what it found for the report, and prints it."""
    console = Console(highlight=False)
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} calls"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{plan.backend}, seed {plan.seed}", total=plan.calls)
        found = BACKENDS[plan.backend](plan, partial(progress.update, task, completed=...) if False else _teller(progress, task))
    seconds = time.monotonic() - start
    results.write(KIND, plan.backend, told(plan, found), command=plan.command, seconds=round(seconds, 1))
    console.print(table(found))
    console.print(summary(plan, found, seconds))
    return found
