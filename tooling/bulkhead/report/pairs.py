"""Which pairs were seen on which backend, how often. Trust label: TOOL.

The list of all pairs is the specification's own where the solver is installed that it takes to read them off the
definitions; elsewhere it is what the results name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

SHORT = ("metal",)
"""Backends whose run is a short one."""


@dataclass(frozen=True)
class Row:
    """A pair as in `spec.pairs`, how often each backend saw it, and why nobody can, if that is so. `beyond`: backend
    that cannot show it → why."""

    step: str
    label: str
    counts: Mapping[str, int]
    unreachable: str
    beyond: Mapping[str, str]

    def wanted(self, backend: str) -> bool:
        """Whether it can be seen there."""
        return not self.unreachable and backend not in self.beyond

    @property
    def nowhere(self) -> bool:
        """Whether no backend has shown it, some for a reason."""
        return bool(self.beyond) and not any(self.counts.values())

    def unseen(self, backend: str) -> bool:
        """Whether it could have been seen there, and was not. A short run need not see everything."""
        return self.wanted(backend) and backend not in SHORT and not self.counts[backend]


@cache
def specified() -> Mapping[str, str]:
    """Every pair, and why it cannot be reached (empty if it can). Empty where there is no solver."""
    try:
        from bulkhead.spec import pairs
    except ImportError:
        return {}
    return {str(pair): pairs.UNREACHABLE.get(pair, "") for pair in pairs.everything()}


def matrix(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each pair; `runs`: backend → data of the kind `conform`. KeyError if one lacks its pairs."""
    known = dict(specified())
    for data in runs.values():
        for name in data["pairs"]:
            known.setdefault(name, "")
        for name in data["unreachable"]:
            known[name] = known.get(name) or "proved"
    counts = {name: {run: int(data["pairs"].get(name, 0)) for run, data in runs.items()} for name in known}
    beyond = {run: data.get("undecided", {}) for run, data in runs.items()}
    return [
        Row(*_parts(name), counts[name], why, {run: told[name] for run, told in beyond.items() if name in told})
        for name, why in known.items()
    ]


def _parts(name: str) -> tuple[str, str]:
    step, _, label = name.partition(": ")
    return step, label
