"""What a run cannot reach, and why: `explained.toml` against the counts of a run. Trust label: TOOL.

An explanation names a file and the exact text of a line. It must fit: the line is there once, and was not covered.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkhead.coverage.counts import FileCounts, Span
from bulkhead.errors import InvalidInput

FILE = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True)
class Explanation:
    """Why `lines` lines from the one with the text `text` on are never executed; with `condition`, why that condition
    in this line (as the source has it) is `never` "true" or "false"."""

    file: str
    text: str
    why: str
    lines: int = 1
    condition: str = ""
    never: str = ""


@dataclass(frozen=True)
class Missing:
    """A line that was not executed or, with `never`, a condition that was not both; why is "" if nobody says."""

    line: int
    text: str
    condition: str = ""
    never: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"`{self.condition}` is never {self.never}" if self.never else f"`{self.text}` is not executed"


def load(scope: str, path: Path = FILE) -> list[Explanation]:
    """The explanations for a scope (a table of the file). InvalidInput if they cannot be read."""
    try:
        entries: list[dict[str, Any]] = tomllib.loads(path.read_text())[scope]
        return [Explanation(**entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"the explanations of {scope} cannot be read: {error!r}", where=path) from error


def explain(
    counts: Mapping[str, FileCounts], sources: Path, explanations: list[Explanation]
) -> tuple[dict[str, list[Missing]], list[str]]:
    """All that is missing in each file, explained where it is; and what is wrong with the explanations."""
    missing = {name: list(_missing(one, (sources / name).read_text().splitlines())) for name, one in counts.items()}
    wrong = []
    for explanation in explanations:
        found = missing.get(explanation.file, [])
        fitting = [n for n, one in enumerate(found) if _fits(one, explanation, found)]
        if len(fitting) != (1 if explanation.never else explanation.lines):
            what = explanation.condition or explanation.text
            wrong.append(f"{explanation.file}: `{what}` is covered, or not there once")
        for n in fitting:
            one = found[n]
            found[n] = Missing(one.line, one.text, one.condition, one.never, explanation.why)
    return missing, wrong


def _fits(one: Missing, explanation: Explanation, found: list[Missing]) -> bool:
    if explanation.never:
        return (one.text, one.condition, one.never) == (explanation.text, explanation.condition, explanation.never)
    first = [other.line for other in found if other.text == explanation.text and not other.never]
    return not one.never and any(line <= one.line < line + explanation.lines for line in first)


def _missing(counts: FileCounts, source: list[str]) -> Iterator[Missing]:
    for line in counts.missing_lines():
        yield Missing(line, source[line - 1].strip())
    for span, way in counts.missing_branches():
        if counts.lines.get(span[0]):
            yield Missing(span[0], source[span[0] - 1].strip(), _text(source, span), way)


def _text(source: list[str], span: Span) -> str:
    """The characters of a span; one of several lines is told by its first."""
    first, column, last, end = span
    return source[first - 1][column - 1 : end - 1 if first == last else None]
