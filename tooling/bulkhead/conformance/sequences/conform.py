"""`inv conform`: random sequences of calls on a backend, each step compared with the specification, every pair counted.

Trust label: TOOL. On the host backend machines are new ones all the time, in several processes (`conform_host`); booted
machines, of which there is one at a time, are `campaign`'s.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.sequences import conform_host, regressions
from bulkhead.conformance.sequences.found import Failure, Found, Plan
from bulkhead.conformance.testing.seat import PSEUDO_TERMINAL
from bulkhead.errors import BulkheadError, CheckFailed, InvalidInput
from bulkhead.provision.paths import REPOSITORY, in_checkout, runner
from bulkhead.report import baselines, results
from bulkhead.spec import pairs
from bulkhead.spec.pairs import Pairs

KIND = "conform"
BACKENDS = ("host", "qemu", "metal")
FULL, OFTEN, SEQUENCES = 1_000_000, 500, 10_000
"""Calls of a full run on the host backend, whose result is kept in `ci/baselines`; how often it sees each reachable
pair, and how many sequences there are that end in full destroy, at least.
"""
SUCCESSES = 0.3
"""Share of calls that succeed, at least."""
REGRESSIONS = (REPOSITORY if in_checkout() else Path()) / regressions.PLACE
"""Where failing sequences are kept."""


def main(
    backend: str = "host",
    calls: int = 0,
    seed: int = 0,
    jobs: int = 2,
    replay: str = "",
    *,
    record: bool = False,
    thorough: bool = False,
    serial: str = PSEUDO_TERMINAL,
    power: str = "",
) -> None:
    """Runs on one backend or on all; with `replay` only the steps of that file. `thorough`, `serial` and
    `power` are for booted machines, as in `campaign`. Raises CheckFailed for a difference, a pair that was not seen, or
    too few successes.
    """
    if replay:
        if wrong := regressions.replay_file(Path(replay)):
            raise CheckFailed(wrong, where=replay)
        print(f"{replay}: the machine takes these steps as specified")
        return
    if backend not in (*BACKENDS, "all"):
        raise InvalidInput(f"there is no backend '{backend}'", hint=f"one of {', '.join(BACKENDS)}, all")
    wrong_ones = []
    for name in BACKENDS if backend == "all" else (backend,):
        try:
            if name == "host":
                plan = Plan(name, calls or FULL, seed or 1 + secrets.randbelow(1 << 32), jobs)
                check(plan, show(plan), record=record)
            else:
                from bulkhead.conformance.sequences import campaign

                campaign.main(
                    name, calls=calls, seed=seed, thorough=thorough, serial=serial, power=power, record=record
                )
        except BulkheadError as error:
            if backend != "all":
                raise
            wrong_ones.append(f"{name}: {error}")  # the others are run all the same
    if wrong_ones:
        raise CheckFailed("\n".join(wrong_ones))


def show(plan: Plan) -> Found:
    """Carries out a plan with a progress bar, keeps what it found for the report, and prints it."""
    console = Console(highlight=False)
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} calls"))
    with (
        results.failing(KIND, plan.backend, command=plan.command, reduced=plan.calls < FULL),
        Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress,
    ):
        task = progress.add_task(f"{plan.backend}, seed {plan.seed}", total=plan.calls)
        found = conform_host.run(plan, lambda calls: progress.update(task, completed=calls))
    seconds = time.monotonic() - start
    keep(plan, found, round(seconds, 1))
    console.print(table(found, coverable.table()))
    for reason, there in coverable.elsewhere().items():
        console.print(f"not of single steps: {'; '.join(map(str, there))}: {reason}")
    console.print(
        f"{plan.backend}: {found.calls:,} calls in {found.sequences:,} sequences on "
        f"{found.machines.total():,} machines, {found.share:.0%} succeed; {seconds:.0f} s; again: {plan.command}"
    )
    return found


def keep(plan: Plan, found: Found, seconds: float | None = None, command: str = "") -> None:
    """As a result for the report; `command` if it is another one than the plan's that finds the same."""
    again, reduced = command or plan.command, plan.calls < FULL
    results.write(KIND, plan.backend, told(plan, found), command=again, seconds=seconds, reduced=reduced)


def check(plan: Plan, found: Found, *, record: bool = False, place: Path | None = None) -> None:
    """CheckFailed if a machine did not do as specified, after keeping its steps in `place`, or if not enough was seen;
    else, with `record`, the run is kept as the claim that tests check.
    """
    if found.failures:
        failure = found.failures[0]
        path = kept_failure(failure, place or REGRESSIONS)
        again = f"{runner()} conform --replay {path}"
        raise CheckFailed(f"{failure.message}\nthe steps that lead there: {again}", where=plan.command)
    if wrong := shortcomings(plan, found):
        raise CheckFailed("; ".join(wrong), where=plan.command)
    if record and plan.calls >= FULL:
        baselines.keep(KIND, claim(plan, found))


def kept_failure(failure: Failure, place: Path) -> Path:
    """The file with the steps of a failure, which is named after the last one."""
    last = failure.steps[-1].name if failure.steps else "nothing"
    digest = hashlib.sha256("".join(map(str, failure.steps)).encode()).hexdigest()[:8]
    return regressions.save(place, f"{last}_{digest}", failure.kit, failure.steps, failure.message)


def often(plan: Plan) -> int:
    """How often each reachable pair must have been seen: the full number in a full run, fewer in shorter ones."""
    return OFTEN if plan.calls >= FULL else OFTEN * plan.calls // (4 * FULL)


def shortcomings(plan: Plan, found: Found) -> list[str]:
    """What was not seen often enough. Nothing is asked of a run that is too short to see each pair once: on a machine
    that has just begun there is little that could succeed.
    """
    least = often(plan)
    rare = [f"{pair} ({found.pairs[pair]})" for pair in coverable.wanted() if found.pairs[pair] < least]
    wrong = [f"seen less than {least} times: {', '.join(rare)}"] if rare else []
    never = (*pairs.unreachable(), *coverable.ELSEWHERE)
    impossible = [str(pair) for pair in never if found.pairs[pair]]
    wrong += [f"said to be out of reach, but seen: {', '.join(impossible)}"] if impossible else []
    if least and found.share < SUCCESSES:
        wrong.append(f"only {found.share:.0%} of the calls succeed")
    if plan.calls >= FULL and found.sequences < SEQUENCES:
        wrong.append(f"only {found.sequences} sequences")
    return wrong


def told(plan: Plan, found: Found) -> dict[str, Any]:
    """What was found, as the report reads it."""
    return {
        "backend": plan.backend,
        "calls": found.calls,
        "successes": found.successes,
        "sequences": found.sequences,
        "machines": dict(found.machines),
        "pairs": {str(pair): found.pairs[pair] for pair in coverable.wanted()},
        "unreachable": [str(pair) for pair in pairs.unreachable()],
        "undecided": {str(pair): str(elsewhere) for pair, elsewhere in coverable.ELSEWHERE.items()},
        "seed": plan.seed,
        "failures": [failure.message for failure in found.failures],
    }


def claim(plan: Plan, found: Found) -> dict[str, Any]:
    """The result of a full run as it is checked in: all but the counts of single pairs."""
    whole, pairs_seen = told(plan, found), coverable.wanted()
    rarest = min(pairs_seen, key=lambda pair: found.pairs[pair])
    kept = {name: whole[name] for name in ("backend", "calls", "successes", "sequences", "machines", "seed")}
    return kept | {"pairs": len(pairs_seen), "rarest": f"{rarest} ({found.pairs[rarest]})"}


def table(found: Found, steps: Mapping[str, Pairs]) -> Table:
    """A line for each call or step: how often it was made, how many succeeded, its pairs, and the rarest of them."""
    shown = Table(box=None, header_style="bold")
    for heading in ("step", "pairs", "made", "succeeded", "the rarest pair"):
        shown.add_column(heading, justify="left" if heading in ("step", "the rarest pair") else "right")
    for step, own in steps.items():
        reachable = (*own.refusals, *own.successes.values())
        made = sum(found.pairs[pair] for pair in reachable)
        done = sum(found.pairs[pair] for pair in own.successes.values())
        seen = sum(found.pairs[pair] > 0 for pair in reachable)
        rarest = min(reachable, key=lambda pair: found.pairs[pair])
        of_all = f"{seen}/{len(reachable)}"
        style = "" if seen == len(reachable) else "red"
        shown.add_row(
            step, of_all, f"{made:,}", f"{done:,}", f"{found.pairs[rarest]:,} x {rarest.label}", style=style
        )
    return shown
