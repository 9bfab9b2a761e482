"""The report on the terminal: a line for each result, and what went wrong with the commands that repeat it.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bulkhead.report.judge import Line, Verdict
from bulkhead.report.results import Result

STYLES = {Verdict.FINE: "green", Verdict.WRONG: "bold red"}
"""Of verdicts; the others are yellow."""
FAILURES = 20
"""Failed tests that are named; the page names all."""


def show(lines: Sequence[Line], found: Sequence[Result], console: Console) -> None:
    """Print it."""
    table = Table("what", "", "figures", "seconds", "command", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    for line in lines:
        seconds = "" if line.seconds is None else f"{line.seconds:,.0f}"
        mark = f"[{STYLES.get(line.verdict, 'yellow')}]{line.verdict.value}[/]"
        table.add_row(line.what, mark, escape(line.figure), seconds, f"[dim]{escape(line.command)}[/]")
    console.print(table)
    for title, replay in failures(found)[:FAILURES]:
        console.print(f"[bold red]failed[/] {escape(title)}\n       {escape(replay)}", soft_wrap=True)


def failures(found: Sequence[Result]) -> list[tuple[str, str]]:
    """Everything that a result says has failed, with the command that repeats it."""
    told = []
    for one in sorted(found, key=lambda result: result.kind != "tests"):
        told += [
            (item["test"], item["replay"]) if isinstance(item, dict) else (str(item).splitlines()[0], one.command)
            for item in one.data.get("failures", ())
        ]
        told += [
            (f"defect {item['name']} was not found", item.get("command", one.command))
            for item in one.data.get("defects", ()) if not item["found"]
        ]  # fmt: skip
        told += [
            (f"attack {item['name']}: {item['reached']}", item["command"])
            for item in one.data.get("attacks", ()) if not item["refused"]
        ]  # fmt: skip
    return told
