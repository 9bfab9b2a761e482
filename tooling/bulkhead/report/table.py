"""The report on the terminal: a line for each result, and what went wrong with the commands that repeat it.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bulkhead.report.failures import failures
from bulkhead.report.judge import Verdict
from bulkhead.report.overview import Line
from bulkhead.report.results import Result

STYLES = {Verdict.FINE: "green", Verdict.REDUCED: "cyan", Verdict.WRONG: "bold red"}
"""Of verdicts; the others are yellow."""
FAILURES = 20
"""Failures that are named; the page names all."""


def show(lines: Sequence[Line], found: Sequence[Result], console: Console) -> None:
    """Print it."""
    table = Table("what", "", "last run", "full run", "seconds", "command", box=None, pad_edge=False)
    table.columns[4].justify = "right"
    table.columns[2].min_width = min(40, console.width // 3)
    for line in lines:
        seconds = "" if line.seconds is None else f"{line.seconds:,.0f}"
        mark = f"[{STYLES.get(line.verdict, 'yellow')}]{line.verdict.value}[/]"
        figure = ("[cyan]reduced:[/] " if line.reduced else "") + escape(line.figure)
        table.add_row(line.what, mark, figure, escape(line.full), seconds, f"[dim]{escape(line.command)}[/]")
    console.print(table)
    told = failures(found)
    for failure in told[:FAILURES]:
        console.print(
            f"[bold red]failed[/] {escape(failure.title)}\n       {escape(failure.replay)}", soft_wrap=True
        )
    if len(told) > FAILURES:
        console.print(f"[bold red]and {len(told) - FAILURES} more[/], which the page names")
