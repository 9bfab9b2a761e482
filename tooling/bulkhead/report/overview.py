"""A line for each kind of run that a complete set of results has: the newest run here, and beside it the full run.

Trust label: TOOL. Of several results the newest about today's engine counts. A reduced one, as `inv test` makes, says
that it is; the full run beside it is a result of today's engine, too, or the record of one in `ci/baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.provision.paths import in_checkout
from bulkhead.report import baselines, certificate, results
from bulkhead.report.judge import Verdict, judged
from bulkhead.report.results import Result

Key = tuple[str, str]
"""Kind and variant."""


@dataclass(frozen=True)
class Wanted:
    """What a complete set of results has: its title, the command that makes it in full, and the record in
    `ci/baselines` of a full run, if such are kept."""

    title: str
    command: str
    record: str = ""


WANTED: Mapping[Key, Wanted] = {
    ("tests", "test"): Wanted("tests", "inv test"),
    ("conform", "host"): Wanted("conform host", "inv conform --backend host", "conform"),
    ("conform", "qemu"): Wanted("conform qemu", "inv conform --backend qemu", "conform_qemu"),
    ("conform", "metal"): Wanted("conform metal", "inv conform --backend metal"),
    ("histories", "qemu"): Wanted("histories", "inv histories --count 5000", "histories"),
    ("storms", "qemu"): Wanted("storms", "inv soak --histories 0 --booted 0 --calls 0", "storms"),
    ("defects", "all"): Wanted("seeded defects", "inv defects", "defects"),
    ("attacks", "all"): Wanted("attacks", "inv attack"),
    ("attacks", "self_check"): Wanted("attacks, self-check", "inv attack --self-check"),
    ("proofs", "all"): Wanted("proofs", "inv prove"),
    ("coverage", "core_host"): Wanted("coverage of core, host", "inv coverage --on host"),
    ("coverage", "arch_qemu"): Wanted("coverage of arch, QEMU", "inv coverage --on qemu"),
    ("coverage", "image_qemu"): Wanted("coverage of image, QEMU", "inv coverage --on qemu"),
    ("coverage", "core_qemu"): Wanted("coverage of core, QEMU", "inv coverage --on qemu"),
    ("fuzz", "host"): Wanted("fuzzing, host", "inv fuzz"),
    ("sanitize", "host"): Wanted("sanitizers, host", "inv sanitize"),
}
ELSEWHERE: Mapping[Key, Wanted] = {
    (kind, on): Wanted(one.title, f"bulkhead conform --backend {on}")
    for (kind, on), one in WANTED.items() if kind == "conform"
}  # fmt: skip
"""The same where there is no checkout."""


@dataclass(frozen=True)
class Line:
    """One line of the overview. `when` is in seconds since 1970; `full` tells of the full run if `figure` does not."""

    what: str
    figure: str
    verdict: Verdict
    command: str
    seconds: float | None = None
    when: float | None = None
    kind: str = ""
    reduced: bool = False
    full: str = ""


def gather() -> tuple[list[Result], list[Line]]:
    """Results that can be read, the certificate of the proofs among them, and a line for each file that cannot."""
    found, broken = [], []
    for path in sorted(results.directory().glob("*.json")):
        try:
            found.append(results.read(path))
        except InvalidInput as error:
            broken.append(Line(path.stem, error.what, Verdict.WRONG, f"rm {path}"))
    try:
        found += certificate.read() if in_checkout() else []
    except InvalidInput as error:
        broken.append(Line("proofs", error.what, Verdict.WRONG, "inv prove"))
    return found, broken


def overview(found: Iterable[Result]) -> list[Line]:
    """All that has been found, what is missing of what there should be, and records of other long runs."""
    of: dict[Key, list[Result]] = {}
    for one in found:
        of.setdefault((one.kind, one.variant), []).append(one)
    wanted = WANTED if in_checkout() else ELSEWHERE
    lines = [line(key, one, of.get(key, [])) for key, one in wanted.items()]
    lines += [line(key, Wanted(" ".join(key), ""), there) for key, there in of.items() if key not in wanted]
    return [*lines, *other_records()] if in_checkout() else lines


def newest(there: Sequence[Result]) -> Result:
    """The one that counts: the newest about today's engine, else the newest."""
    return max(there, key=lambda one: (one.current, one.when))


def line(key: Key, wanted: Wanted, there: Sequence[Result]) -> Line:
    """The line of what there is of one kind and variant: a full result, a reduced one, both or none."""
    if not there:
        recorded, text = record(wanted)
        fine = recorded is Verdict.FINE
        return Line(wanted.title, "no result", Verdict.FINE if fine else Verdict.MISSING, wanted.command,
                    kind=key[0], full=text)  # fmt: skip
    last = newest(there)
    verdict, figure = judged(last)
    full, text = full_run(wanted, there, last)
    if full is Verdict.WRONG:
        verdict = Verdict.WRONG
    elif verdict is not Verdict.WRONG and not last.current:
        verdict = Verdict.STALE
    elif verdict is not Verdict.WRONG and last.reduced:
        verdict = Verdict.FINE if full is Verdict.FINE else Verdict.REDUCED
    command = last.command if verdict is Verdict.WRONG or not wanted.command else wanted.command
    return Line(wanted.title, figure, verdict, command, last.seconds, last.when, key[0], last.reduced, text)


def full_run(wanted: Wanted, there: Sequence[Result], last: Result) -> tuple[Verdict | None, str]:
    """What the full run beside `last` has shown: a result of today's engine, or a record; None if none is known."""
    for one in there:
        if one is not last and not one.reduced and one.current:
            return judged(one)
    if wanted.record:
        return record(wanted)
    return None, "none for this engine" if last.reduced else ""


def record(wanted: Wanted) -> tuple[Verdict | None, str]:
    """What the record of a full run says."""
    try:
        kept = baselines.kept(wanted.record) if wanted.record and in_checkout() else None
    except BulkheadError:
        return Verdict.STALE, f"kept is one of another engine ({wanted.record}.json)"
    if kept is None:
        return None, "none for this engine" if wanted.record else ""
    return Verdict.FINE, f"kept: {_KEPT[wanted.record](kept)}"


def other_records() -> list[Line]:
    """The records in `ci/baselines` that are about one engine and belong to no other line."""
    lines = []
    for path in sorted(baselines.DIRECTORY.glob("*.json")):
        if path.stem in _KEPT or not baselines.names_an_engine(path):
            continue
        try:
            baselines.kept(path.stem)
            lines.append(Line(path.stem, "", Verdict.FINE, "inv soak", full=f"kept: {path.name}"))
        except BulkheadError:
            lines.append(Line(path.stem, "", Verdict.STALE, "inv soak", full="kept is one of another engine"))
    return lines


def _conform(kept: Mapping[str, Any]) -> str:
    seen = kept["pairs"] - kept.get("missing", 0)
    return f"{seen:,} of {kept['pairs']:,} pairs, {kept['calls']:,} calls; the rarest pair: {kept['rarest']}"


_KEPT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "conform": _conform,
    "conform_qemu": _conform,
    "histories": lambda kept: f"{kept['explained']:,} of {kept['histories']:,} histories explained",
    "storms": lambda kept: f"{kept['storms']:,} storms, {kept['total']['calls']:,} calls",
    "defects": lambda kept: f"all {len(kept['defects'])} seeded defects found",
}
"""Records → their figures."""
