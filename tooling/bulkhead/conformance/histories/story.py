"""An unexplained history for people, and as a file from which its program is carried out again. Trust label: TOOL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.provision.paths import REPOSITORY, in_checkout

from .program import Event, Program, Step
from .search import Unexplained

DIFFERENCES = 8
"""Most differences that are told."""


def tell(history: list[Event], verdict: Unexplained) -> str:
    """Who did what, when, the answers, and why no order fits."""
    return "\n".join((*_setting(history), *_events(history), *_reasons(verdict)))


def _setting(history: list[Event]) -> Iterator[str]:
    yield "no order of atomic steps explains this history"
    yield "  first, CPU 0 alone:"
    for event in history:
        if event.step.round == 0:
            yield f"    {event.step} -> {event.reply}"


def _events(history: list[Event]) -> Iterator[str]:
    """In the order of their beginnings; a column shows when each began and ended."""
    together = sorted((event for event in history if event.step.round), key=lambda event: event.began)
    if not together:
        return
    first, last = together[0].began, max(event.ended for event in together)
    yield f"  then at once ({'=' * 3} from beginning to end):"
    for event in together:
        bar = " " * (event.began - first) + "=" * (event.ended - event.began + 1)
        yield f"    |{bar:<{last - first + 1}}| {event} -> {event.reply}"


def _reasons(verdict: Unexplained) -> Iterator[str]:
    yield "  the order that comes closest:"
    for event in verdict.order:
        if event.step.round:
            yield f"    {event}"
    yield "  behind it:"
    for reason in verdict.reasons[:DIFFERENCES]:
        yield f"    {reason}"
    if len(verdict.reasons) > DIFFERENCES:
        yield f"    and {len(verdict.reasons) - DIFFERENCES} differences more"


def save(program: Program, story: str) -> Path:
    """Keep the program and what came of it; the file, whose name is that of the program."""
    document = {
        "cpus": program.cpus,
        "blocks": program.blocks,
        "steps": [step.as_json() for step in program.steps],
        "story": story.splitlines(),
    }
    name = hashlib.sha256(json.dumps(document["steps"]).encode()).hexdigest()[:12]
    directory = (REPOSITORY / "build" if in_checkout() else Path.cwd()) / "histories"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def load(path: Path) -> Program:
    """The program of such a file. InvalidInput if it is none."""
    try:
        document = json.loads(path.read_text())
        steps = tuple(Step(*step) for step in document["steps"])
        return Program(steps, tuple(document["blocks"]), document["cpus"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"this holds no program: {error!r}", where=path) from error
