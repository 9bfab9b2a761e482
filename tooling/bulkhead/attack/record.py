"""What became of the attacks, kept for the report. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bulkhead.attack.campaign import Outcome, Result
from bulkhead.report import results

KIND, COMMAND = "attacks", "inv attack"


def failing(*, self_check: bool = False) -> AbstractContextManager[None]:
    """A block in which all attacks are carried out: an error that ends it is the result."""
    variant, command = _which(self_check)
    return results.failing(KIND, variant, command=command, native=False)


def keep(found: Sequence[Result], *, self_check: bool = False) -> None:
    """Keep the result of all attacks on the shipped image, or of each on an engine without its protection."""
    variant, command = _which(self_check)
    data = (
        {"noticed": [noticed(one) for one in found]} if self_check else {KIND: [told(one) for one in found]}
    )
    results.write(
        KIND, variant, data, command=command, seconds=sum(one.seconds for one in found), native=False
    )


def _which(self_check: bool) -> tuple[str, str]:
    """Variant of the result, and the command that finds it again."""
    return ("self_check", f"{COMMAND} --self-check") if self_check else ("all", COMMAND)


def told(result: Result) -> dict[str, Any]:
    """One attack as the report reads it."""
    one = result.attack
    return {
        "name": one.name, "subject": one.subject, "title": one.title, "by": one.by, "against": str(one.against),
        "refused": result.outcome is Outcome.REFUSED, "outcome": result.outcome.value,
        "reached": one.refused if result.outcome is Outcome.REFUSED else result.reached,
        "seconds": round(result.seconds, 1), "command": f"{COMMAND} --name {one.name}",
    }  # fmt: skip


def noticed(result: Result) -> dict[str, Any]:
    """One attack on an engine without its protection."""
    one = result.attack
    return {
        "name": one.name, "removed": one.refused, "noticed": result.outcome is Outcome.SUCCEEDED,
        "outcome": result.outcome.value, "reached": result.reached, "seconds": round(result.seconds, 1),
        "command": f"{COMMAND} --self-check --name {one.name}",
    }  # fmt: skip
