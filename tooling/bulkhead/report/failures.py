"""Everything that results say has failed, with the command that repeats it. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bulkhead.report.results import Result


@dataclass(frozen=True)
class Failure:
    """What failed, when if it was a test (`setup`, `call`, ...), what it said, and what repeats it."""

    title: str
    replay: str
    text: str = ""
    phase: str = ""


def failures(found: Sequence[Result]) -> list[Failure]:
    """Failed tests first. What is about another engine than today's says so."""
    ordered = sorted(found, key=lambda one: (one.kind != "tests", not one.current))
    return [
        failure if one.current else replace(failure, title=f"{failure.title} (another engine)")
        for one in ordered for failure in _of(one)
    ]  # fmt: skip


def _of(result: Result) -> Iterator[Failure]:
    for item in result.data.get("failures", ()):
        if isinstance(item, dict):
            yield Failure(item["test"], item["replay"], item["text"], item["phase"])
        else:
            title = f"{result.kind} {result.variant}: {str(item).splitlines()[0]}"
            yield Failure(title, result.command, str(item))
    for item in result.data.get("lost", ()):
        title = f"{result.kind} {result.variant}, lost: {str(item).splitlines()[0]}"
        yield Failure(title, result.command, str(item))
    for item in result.data.get("defects", ()):
        if not item["found"]:
            command = item.get("command", result.command)
            yield Failure(f"defect {item['name']} was not found", command, item.get("step", ""))
    for item in result.data.get("attacks", ()):
        if not item["refused"]:
            yield Failure(f"attack {item['name']}: {item['reached']}", item["command"], item["reached"])
    for item in result.data.get("noticed", ()):
        if not item["noticed"]:
            title = f"attack {item['name']} without its protection: {item['outcome']}"
            yield Failure(title, item["command"], item["reached"])
    for item in result.data.get("failed", ()):
        title = f"theorem {item['subject']}: {item['claim']}"
        yield Failure(title, result.command, str(item["why"]))
