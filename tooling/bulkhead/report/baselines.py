"""Claims that rest on long runs: `ci/baselines/<kind>.json`, each about one engine. Trust label: TOOL.

`inv soak` makes the long run and keeps what it found; tests run less and ask for what is kept, which fails as soon as
the engine is another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulkhead.errors import CheckFailed
from bulkhead.provision.paths import REPOSITORY
from bulkhead.report.results import engine_hash

DIRECTORY = REPOSITORY / "ci" / "baselines"
ENGINE = "engine"


def keep(kind: str, data: Mapping[str, Any]) -> Path:
    """Record what a full run has found about today's engine; the file, to be checked in."""
    path = DIRECTORY / f"{kind}.json"
    path.write_text(json.dumps({ENGINE: engine_hash(), **data}, indent=2) + "\n")
    return path


def kept(kind: str) -> dict[str, Any] | None:
    """What the last full run has found; None if there was none. CheckFailed if it was about another engine."""
    path = DIRECTORY / f"{kind}.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    if record.pop(ENGINE) != engine_hash():
        raise CheckFailed(
            "this record is about another engine", where=path, hint="run `inv soak` again, or remove it"
        )
    return record


def claimed(kind: str) -> dict[str, Any]:
    """What the last full run has found. CheckFailed if there was none, or about another engine."""
    record = kept(kind)
    if record is None:
        raise CheckFailed(
            "a claim rests on a full run that is not kept",
            where=DIRECTORY / f"{kind}.json",
            hint="run `inv soak`, and `inv defects --record`",
        )
    return record


def names_an_engine(path: Path) -> bool:
    """Whether a file of this directory is a record about one engine; others hold limits for every engine."""
    return ENGINE in json.loads(path.read_text())
