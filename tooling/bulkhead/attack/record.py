"""What became of the attacks, kept for the report. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bulkhead.attack.campaign import Outcome, Result
from bulkhead.report import results

KIND, COMMAND = "attacks", "inv attack"


def failing() -> AbstractContextManager[None]:
    """A block in which all attacks are carried out: an error that ends it is the result."""
    return results.failing(KIND, "all", command=COMMAND, native=False)


def keep(found: Sequence[Result]) -> None:
    """Keep the result of all attacks on the shipped image."""
    results.write(
        KIND, "all", {KIND: [told(one) for one in found]}, command=COMMAND,
        seconds=sum(one.seconds for one in found), native=False,
    )  # fmt: skip


def told(result: Result) -> dict[str, Any]:
    """One attack as the report reads it."""
    one = result.attack
    return {
        "name": one.name, "subject": one.subject, "title": one.title, "by": one.by, "against": str(one.against),
        "refused": result.outcome is Outcome.REFUSED, "outcome": result.outcome.value,
        "reached": one.refused if result.outcome is Outcome.REFUSED else result.reached,
        "seconds": round(result.seconds, 1), "command": f"inv attack --name {one.name}",
    }  # fmt: skip
