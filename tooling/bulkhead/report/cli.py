"""`inv report`: the terminal table and the page, from the results that there are. Trust label: TOOL."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bulkhead.report import judge, page, results, table

WIDTH = 150
"""Columns of the table where there is no terminal."""


def main() -> Path:
    """Print the table and write the page; its file."""
    found, broken = judge.gather()
    lines = [*judge.overview(found), *broken]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table.show(lines, found, console)
    path = results.directory().parent / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(lines, found, results.known_hash() or "not built"))
    console.print(f"{path}", soft_wrap=True)
    return path
