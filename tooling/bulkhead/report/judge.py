"""What a result means in one line, and whether all is well with it. Trust label: TOOL.

Nothing is taken to be well because it is not there: what a kind needs and a result lacks is said to be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.image.build import BUILD
from bulkhead.provision.paths import in_checkout
from bulkhead.report import baselines, results
from bulkhead.report.pairs import SHORT, matrix
from bulkhead.report.results import Result

Data = Mapping[str, Any]
CERTIFICATE = BUILD / "proofs" / "certificate.json"


_LACKS = (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError)
"""What reading a result of another form ends with."""


class Verdict(Enum):
    """What to think of a line."""

    FINE = "fine"
    PARTLY = "not all"
    WRONG = "wrong"
    STALE = "another engine"
    MISSING = "missing"


EXPECTED = {
    ("tests", "test"): "inv test",
    ("conform", "host"): "inv conform --backend host",
    ("conform", "qemu"): "inv conform --backend qemu",
    ("conform", "metal"): "inv conform --backend metal",
    ("histories", "qemu"): "inv histories",
    ("defects", "all"): "inv defects",
    ("coverage", "core_host"): "inv coverage --on host",
    ("coverage", "arch_qemu"): "inv coverage --on qemu",
    ("coverage", "image_qemu"): "inv coverage --on qemu",
    ("fuzz", "host"): "inv fuzz",
    ("sanitize", "host"): "inv sanitize",
    ("attacks", "all"): "inv attack",
}
"""Kind and variant of what a complete set of results has, and the command that makes it."""


ELSEWHERE = {(kind, on): f"bulkhead conform --backend {on}" for kind, on in EXPECTED if kind == "conform"}
"""The same where there is no checkout."""


@dataclass(frozen=True)
class Line:
    """One line of the overview. `when` is in seconds since 1970."""

    what: str
    figure: str
    verdict: Verdict
    command: str
    seconds: float | None = None
    when: float | None = None


def overview(found: Iterable[Result]) -> list[Line]:
    """All that has been found, what is missing of what there should be, proofs, and the claims of long runs."""
    have = {(one.kind, one.variant): one for one in found}
    wanted = EXPECTED if in_checkout() else ELSEWHERE
    lines = [line_of(have[key]) if key in have else missing(*key, command) for key, command in wanted.items()]
    lines += [line_of(one) for key, one in have.items() if key not in wanted]
    return [*lines, proofs(), *claims()] if in_checkout() else lines


def missing(kind: str, variant: str, command: str) -> Line:
    """The line of a result that is not there."""
    return Line(f"{kind} {variant}", "no result", Verdict.MISSING, command)


def line_of(result: Result) -> Line:
    """The line of one result."""
    verdict, figure = judged(result)
    if verdict is Verdict.FINE and not result.current:
        verdict = Verdict.STALE
    what = f"{result.kind} {result.variant}"
    return Line(what, figure, verdict, result.command, result.seconds, result.when)


def judged(result: Result) -> tuple[Verdict, str]:
    """What to think of it, and the figures."""
    try:
        return _JUDGES[result.kind](result.data) if result.kind in _JUDGES else (Verdict.FINE, "")
    except _LACKS as error:
        return Verdict.WRONG, f"the result lacks what its kind needs: {error!r}"


def is_readable(result: Result) -> bool:
    """Whether a result has what its kind needs."""
    try:
        return result.kind not in _JUDGES or bool(_JUDGES[result.kind](result.data))
    except _LACKS:
        return False


def _tests(data: Data) -> tuple[Verdict, str]:
    passed, failed = data["passed"], len(data["failures"])
    return _fine(passed > 0 and failed == 0), f"{passed:,} passed, {failed:,} failed, {data['skipped']:,} skipped"


def _conform(data: Data) -> tuple[Verdict, str]:
    rows = matrix({"this": data})
    wanted = [row for row in rows if row.wanted("this")]
    seen = [row for row in wanted if row.counts["this"]]
    impossible = [row for row in rows if row.unreachable and row.counts["this"]]
    share = data["successes"] / data["calls"]
    least = min((row.counts["this"] for row in seen), default=0)
    figure = (
        f"{len(seen):,} of {len(wanted):,} pairs, each at least {least:,} times; "
        f"{data['calls']:,} calls, {share:.0%} succeed; {_number(data['sequences']):,} sequences"
    )
    if impossible or not seen or data.get("failures"):
        return Verdict.WRONG, figure
    whole = len(seen) == len(wanted) or data["backend"] in SHORT
    return Verdict.FINE if whole else Verdict.PARTLY, figure


def _histories(data: Data) -> tuple[Verdict, str]:
    all_, explained = data["histories"], data["explained"]
    return _fine(0 < all_ == explained), f"{explained:,} of {all_:,} histories explained, {data['calls']:,} calls"


def _defects(data: Data) -> tuple[Verdict, str]:
    found = [one for one in data["defects"] if one["found"]]
    return _fine(0 < len(found) == len(data["defects"])), f"{len(found)} of {len(data['defects'])} seeded defects found"


def _coverage(data: Data) -> tuple[Verdict, str]:
    files = data["files"].values()
    lines, covered = sum(one["lines"] for one in files), sum(one["covered"] for one in files)
    branches, taken = sum(one["branches"] for one in files), sum(one["covered_branches"] for one in files)
    open_ = [why for one in files for _, why in one["missing"] if not why]
    figure = f"{covered / lines:.1%} of {lines:,} lines"
    figure += f", {taken / branches:.1%} of {branches:,} branches" if branches else ""
    return _fine(lines > 0 and not open_), figure + (f"; {len(open_)} gaps without a reason" if open_ else "")


def _fuzz(data: Data) -> tuple[Verdict, str]:
    figure = f"{data['executions']:,} executions, {data['corpus']:,} inputs kept, {data['features']:,} features"
    return _fine(data["executions"] > 0), figure


def _sanitize(data: Data) -> tuple[Verdict, str]:
    figure = f"address: {data['crates']} tests of the crates, {data['calls']}; thread: {data['threads']}"
    return _fine(bool(data["crates"] and data["calls"] and data["threads"])), figure


def _attacks(data: Data) -> tuple[Verdict, str]:
    refused = [one for one in data["attacks"] if one["refused"]]
    return _fine(0 < len(refused) == len(data["attacks"])), f"{len(refused)} of {len(data['attacks'])} attacks refused"


def _fine(holds: bool) -> Verdict:
    return Verdict.FINE if holds else Verdict.WRONG


def _number(value: Any) -> int:
    return value if isinstance(value, int) else len(value)


_JUDGES: dict[str, Callable[[Data], tuple[Verdict, str]]] = {
    "tests": _tests, "conform": _conform, "histories": _histories, "defects": _defects, "coverage": _coverage,
    "fuzz": _fuzz, "sanitize": _sanitize, "attacks": _attacks,
}  # fmt: skip


def proofs(path: Path = CERTIFICATE) -> Line:
    """The certificate of the last `inv prove`."""
    try:
        document = json.loads(path.read_text())
        proved, failed = len(document["proved"]), len(document["failed"])
        same = document["elf_sha256"] == results.known_hash()
    except OSError:
        return Line("proofs", "no certificate", Verdict.MISSING, "inv prove")
    except (ValueError, KeyError) as error:
        return Line("proofs", f"the certificate cannot be read: {error!r}", Verdict.WRONG, "inv prove")
    verdict = Verdict.WRONG if failed or not proved else Verdict.FINE if same else Verdict.STALE
    return Line("proofs", f"{proved} theorems proved, {failed} failed", verdict, "inv prove")


def claims() -> list[Line]:
    """The records of long runs in `ci/baselines` that are about one engine."""
    lines = []
    for path in sorted(baselines.DIRECTORY.glob("*.json")):
        document = json.loads(path.read_text())
        if baselines.ENGINE not in document:
            continue
        try:
            kept = baselines.kept(path.stem) or {}
        except BulkheadError:
            lines.append(Line(f"kept: {path.stem}", "about another engine", Verdict.STALE, "inv soak"))
            continue
        lines.append(Line(f"kept: {path.stem}", _short(kept), Verdict.FINE, "inv soak"))
    return lines


def _short(kept: Data) -> str:
    """The figures of a record, one level deep."""
    counts = {name: value if isinstance(value, int) else len(value) for name, value in kept.items()
              if isinstance(value, (int, list, dict)) and name not in ("total",)}  # fmt: skip
    return ", ".join(f"{name} {value:,}" for name, value in counts.items())


def gather() -> tuple[list[Result], list[Line]]:
    """Results that can be read, and a line for each file that cannot."""
    found, broken = [], []
    for path in sorted(results.directory().glob("*.json")):
        try:
            found.append(results.read(path))
        except InvalidInput as error:
            broken.append(Line(path.stem, error.what, Verdict.WRONG, f"rm {path}"))
    return found, broken
