"""`inv report`: the terminal table and the page, from the results that there are. Trust label: TOOL."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bulkhead.errors import BulkheadError
from bulkhead.provision.paths import in_checkout, say
from bulkhead.report import overview, page, results, table

WIDTH = 160
"""Columns of the table where there is no terminal."""


def main() -> Path:
    """Print the table and write the page; its file."""
    if in_checkout():
        try:
            results.engine_hash()  # builds what the results are compared with, if the sources are newer
        except BulkheadError as error:
            say(f"the engine does not build, so nothing is about today's: {error.what}")
    found, broken = overview.gather()
    lines = [*overview.overview(found), *broken]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table.show(lines, found, console)
    text = page.render(lines, found, results.known_hash() or "not built")
    path = results.put(results.directory().parent / "report.html", text)
    console.print(f"{path}", soft_wrap=True)
    return path
