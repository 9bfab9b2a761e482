"""What the data of a result mean in one line, and whether all is well with them. Trust label: TOOL.

Nothing is taken to be well because it is not there: what a kind needs and a result lacks is said to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from bulkhead.report.pairs import SHORT, matrix
from bulkhead.report.results import Result

Data = Mapping[str, Any]
_LACKS = (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError)
"""What reading a result of another form ends with."""


class Verdict(Enum):
    """What to think of a line. REDUCED: nothing is wrong, but this engine has had no full run that is known here."""

    FINE = "fine"
    REDUCED = "reduced"
    PARTLY = "not all"
    WRONG = "wrong"
    STALE = "another engine"
    MISSING = "missing"


def judged(result: Result) -> tuple[Verdict, str]:
    """What to think of it, and the figures."""
    if result.kind != "tests" and result.data.keys() == {"failures"}:
        return Verdict.WRONG, f"ended by a failure: {str(result.data['failures'][0]).splitlines()[0]}"
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
        f"{len(seen):,} of {len(wanted):,} pairs, the rarest seen {_times(least)}; "
        f"{data['calls']:,} calls, {share:.0%} succeed; {_plural(_number(data['sequences']), 'sequence')}"
    )
    if lost := data.get("lost"):
        figure += f"; {_plural(len(lost), 'machine')} lost"
    if impossible or not seen or lost or data.get("failures"):
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
    return _fine(data["executions"] > 0 and not data["differences"]), figure


def _sanitize(data: Data) -> tuple[Verdict, str]:
    figure = f"address: {data['crates']} tests of the crates, {data['calls']}; thread: {data['threads']}"
    return _fine(bool(data["crates"] and data["calls"] and data["threads"])), figure


def _attacks(data: Data) -> tuple[Verdict, str]:
    if "noticed" in data:
        noticed = [one for one in data["noticed"] if one["noticed"]]
        figure = f"{len(noticed)} of {len(data['noticed'])} attacks noticed where their protection is gone"
        return _fine(0 < len(noticed) == len(data["noticed"])), figure
    refused = [one for one in data["attacks"] if one["refused"]]
    return _fine(0 < len(refused) == len(data["attacks"])), f"{len(refused)} of {len(data['attacks'])} attacks refused"


def _storms(data: Data) -> tuple[Verdict, str]:
    return _fine(data["storms"] > 0), f"{data['storms']:,} storms, {data['total']['calls']:,} calls"


def _proofs(data: Data) -> tuple[Verdict, str]:
    proved, failed = len(data["proved"]), len(data["failed"])
    return _fine(proved > 0 and not failed), f"{proved} theorems proved, {failed} failed"


def _fine(holds: bool) -> Verdict:
    return Verdict.FINE if holds else Verdict.WRONG


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _number(value: Any) -> int:
    return value if isinstance(value, int) else len(value)


_JUDGES: dict[str, Callable[[Data], tuple[Verdict, str]]] = {
    "tests": _tests, "conform": _conform, "histories": _histories, "defects": _defects, "coverage": _coverage,
    "fuzz": _fuzz, "sanitize": _sanitize, "attacks": _attacks,
    "storms": _storms, "proofs": _proofs,
}  # fmt: skip
