"""`inv defects`: engines with one mistake each, and what finds it. Trust label: TOOL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bulkhead.defects import catalogue
from bulkhead.defects.declaration import Defect
from bulkhead.defects.hunt import Finding, Verdict, hunt
from bulkhead.errors import CheckFailed
from bulkhead.report import baselines, results

KIND = "defects"
STEP_LINES = 6
"""Of what a finder says, on the terminal."""
_INDENT = 10
_STYLES = {Verdict.FOUND: "green", Verdict.SURVIVED: "bold red", Verdict.BROKEN: "yellow"}


def main(name: str = "", *, listing: bool = False, jobs: int = 2, record: bool = False) -> None:
    """All defects or those called `name` (names and families, separated by commas). Raises CheckFailed.

    `record` keeps the result of a full run as the claim that tests check.
    """
    names = [word for word in name.split(",") if word]
    chosen = catalogue.select(names)
    console = Console(highlight=False)
    if listing:
        listed(console, chosen)
        return
    start = time.monotonic()
    with results.failing(KIND, "all", command=command(chosen), native=False, reduced=not is_full(chosen)):
        findings = show(console, chosen, jobs)
    path = keep(findings, time.monotonic() - start)
    summarise(console, findings)
    wrong = [finding.defect.name for finding in findings if finding.verdict is not Verdict.FOUND]
    if wrong:
        raise CheckFailed(f"{len(wrong)} of {len(findings)} defects are not found: {', '.join(wrong)}", where=path)
    if record and not names:
        baselines.keep(KIND, claim(findings))


def keep(findings: Sequence[Finding], seconds: float) -> Path:
    """As a result for the report: a reduced one unless it is of all defects."""
    defects = [finding.defect for finding in findings]
    return results.write(
        KIND, "all", {"defects": [told(finding) for finding in findings]}, seconds=round(seconds, 1), native=False,
        command=command(defects), reduced=not is_full(defects),
    )  # fmt: skip


def is_full(defects: Sequence[Defect]) -> bool:
    """Whether these are all that there are."""
    return len(defects) == len(catalogue.load())


def command(defects: Sequence[Defect]) -> str:
    """What looks for these again."""
    return "inv defects" if is_full(defects) else f"inv defects --name {','.join(one.name for one in defects)}"


def told(finding: Finding) -> dict[str, Any]:
    """A finding as the report reads it."""
    one = finding.defect
    return {
        "name": one.name, "family": one.family, "promise": one.breaks, "title": one.title,
        "found": finding.verdict is Verdict.FOUND, "by": finding.by, "step": finding.step,
        "seconds": round(finding.seconds, 1), "command": f"inv defects --name {one.name}",
    }  # fmt: skip


def claim(findings: Sequence[Finding]) -> dict[str, Any]:
    """What is kept of a full run: defects by name, and what found each."""
    return {"defects": {finding.defect.name: finding.by for finding in findings}}


def listed(console: Console, defects: Sequence[Defect]) -> None:
    """Defects without looking for them, a line each."""
    for one in defects:
        where = f"{one.family:16} {one.name:36} {one.breaks}"
        console.print(f"{where} {one.title} [dim]{escape(str(one.found_by))}[/]", soft_wrap=True)


def hunted(defects: Sequence[Defect], jobs: int) -> Iterator[Finding]:
    """Findings as they come, `jobs` searches at a time."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="defect") as pool:
        waiting = [pool.submit(hunt, one) for one in defects]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def show(console: Console, defects: Sequence[Defect], jobs: int) -> list[Finding]:
    """Looks for all, with a line each as it ends; in the order of `defects`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    findings: dict[str, Finding] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("defects", total=len(defects))
        for finding in hunted(defects, jobs):
            findings[finding.defect.name] = finding
            console.print(paragraph(finding), soft_wrap=True)
            progress.advance(task)
    return [findings[one.name] for one in defects]


def paragraph(finding: Finding) -> str:
    """What happened to one defect, for the terminal."""
    one, style = finding.defect, _STYLES[finding.verdict]
    lines = [line.rstrip() for line in finding.step.strip().splitlines()]
    fate = f"[{style}]{finding.verdict.value:{_INDENT}}[/]"
    facts = f"{finding.seconds:.1f} s, breaks {one.breaks}, by {finding.by}"
    step = [f"{'':{_INDENT}}  [dim]{escape(line)}[/]" for line in lines[:STEP_LINES]]
    return "\n".join([f"{fate}{one.name} [dim]{escape(facts)}[/]", f"{'':{_INDENT}}{escape(one.title)}", *step])


def summarise(console: Console, findings: Sequence[Finding]) -> None:
    """A line for each family, and one for all."""
    table = Table("family", "defects", "found", "seconds", box=None)
    families: dict[str, list[Finding]] = {}
    for finding in findings:
        families.setdefault(finding.defect.family, []).append(finding)
    for family, group in families.items():
        found = sum(finding.verdict is Verdict.FOUND for finding in group)
        table.add_row(family, str(len(group)), str(found), f"{sum(finding.seconds for finding in group):.0f}")
    console.print(table)
    counts = Counter(finding.verdict.value for finding in findings)
    console.print(f"{len(findings)} defects: {', '.join(f'{count} {word}' for word, count in counts.items())}")
