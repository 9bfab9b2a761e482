"""`inv attack`: carries attacks out, a line for each, and a summary. Trust label: TOOL."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bulkhead.attack import catalogue, record
from bulkhead.attack.campaign import Job, Outcome, Result, shipped, under_way, weakened
from bulkhead.attack.declaration import Attack
from bulkhead.errors import CheckFailed
from bulkhead.image import variant
from bulkhead.image.build import BUILD

REPORT = BUILD / "attacks.html"
NAME_WIDTH, BY_WIDTH = 46, 8
_REFUSED = {
    Outcome.REFUSED: ("green", "refused"),
    Outcome.SUCCEEDED: ("bold red", "SUCCEEDED"),
    Outcome.TRACES: ("bold red", "TRACES"),
    Outcome.BROKEN: ("yellow", "BROKEN"),
}
_NOTICED = {
    Outcome.SUCCEEDED: ("green", "noticed"),
    Outcome.REFUSED: ("bold red", "NOT NOTICED"),
    Outcome.TRACES: ("bold red", "BY TRACES"),
    Outcome.BROKEN: ("yellow", "BROKEN"),
}


def main(name: str = "", *, self_check: bool = False, listing: bool = False) -> None:
    """All attacks or those called `name` (names and subjects, separated by commas). Raises CheckFailed. In a listing
    a + marks those with a self-check."""
    attacks = catalogue.select([word for word in name.split(",") if word])
    console = Console(record=True, highlight=False)
    if listing:
        for one in attacks:
            console.print(
                f"{one.subject:14} {one.name:{NAME_WIDTH}} {one.by:{BY_WIDTH}} "
                f"{'+' if one.removed else ' '} {one.title}",
                soft_wrap=True,
            )
        return
    if self_check:
        for one in attacks:
            variant.check(one.removed)
    jobs = weakened(attacks) if self_check else shipped(attacks)
    if not jobs:
        raise CheckFailed("none of these attacks names a protection", hint="engine/docs/threat-model.md says why")
    with nullcontext() if name else record.failing(self_check=self_check):
        results = _show(console, jobs, self_check)
    wanted = Outcome.SUCCEEDED if self_check else Outcome.REFUSED
    wrong = [result for result in results if result.outcome is not wanted]
    for result in wrong:
        _explain(console, result, self_check)
    _save(console)
    if not name:
        record.keep(results, self_check=self_check)
    if wrong:
        names = ", ".join(result.attack.name for result in wrong)
        raise CheckFailed(f"{len(wrong)} of {len(results)}: {names}", where=REPORT)


def _show(console: Console, jobs: list[Job], self_check: bool) -> list[Result]:
    attacks: list[Attack] = sorted(
        (one for job in jobs for one in job.attacks), key=lambda one: (one.subject, one.name)
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Result] = []
    subject = ""
    with under_way(jobs) as campaign, Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("self-check" if self_check else "attacks", total=len(attacks))
        for one in attacks:
            result = campaign.result(one)
            if one.subject != subject:
                subject = one.subject
                console.print(f"\n[bold]{subject.replace('_', ' ')}[/bold]")
            console.print(_line(result, self_check), soft_wrap=True)
            results.append(result)
            progress.advance(task)
    _summarise(console, results, self_check)
    return results


def _line(result: Result, self_check: bool) -> str:
    one = result.attack
    style, word = (_NOTICED if self_check else _REFUSED)[result.outcome]
    why = one.refused if not self_check and result.outcome is Outcome.REFUSED else result.reached
    first = escape(why.strip().splitlines()[0] if why.strip() else "")
    return (
        f"  {one.name:{NAME_WIDTH}} {one.by:{BY_WIDTH}} {one.against}  "
        f"[{style}]{word}[/]  {result.seconds:5.1f} s  [dim]{first}[/]"
    )


def _explain(console: Console, result: Result, self_check: bool) -> None:
    """What to look at when an attack did not end as it must."""
    one = result.attack
    option = "--self-check " if self_check else ""
    console.print(f"\n[bold]{one.name}[/bold] {result.outcome.value}: {one.title}", soft_wrap=True)
    for what, text in (
        ("reached", result.reached.strip()),
        ("against", f"{one.against} (engine/docs/threat-model.md); it must be refused because {one.refused}"),
        ("page", f"tests/attack/{one.subject}/{one.name}.py"),
        ("seen at", result.place),
        ("without", "; ".join(dict.fromkeys(edit.file for edit in one.removed)) if self_check else ""),
        ("again", f"inv attack {option}--name {one.name}"),
    ):
        if text:
            console.print(f"  {what:8} {escape(text)}", soft_wrap=True)


def _summarise(console: Console, results: list[Result], self_check: bool) -> None:
    words = {outcome: word.lower() for outcome, (_, word) in (_NOTICED if self_check else _REFUSED).items()}
    counts = Counter(words[result.outcome] for result in results)
    by = Counter(result.attack.by for result in results)
    console.print(f"\n{len(results)} attacks: {', '.join(f'{n} {word}' for word, n in counts.items())}")
    console.print(f"by {', '.join(f'{who} {n}' for who, n in by.most_common())}")


def _save(console: Console, path: Path = REPORT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_html(str(path), clear=False)
    console.print(f"[dim]{path}[/]")
