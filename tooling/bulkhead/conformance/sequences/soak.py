"""A full run of `conform` on the host backend, in parts: it goes on where it was interrupted, as long as the engine and
the pairs that are wanted are the same, and its sum becomes the claim that tests check.

Trust label: TOOL.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.sequences import conform
from bulkhead.conformance.sequences.found import Found, Plan
from bulkhead.provision.paths import REPOSITORY
from bulkhead.report import results
from bulkhead.spec import pairs

PARTS = 10
DIRECTORY = REPOSITORY / "build" / "soak"


def main(calls: int = conform.FULL, seed: int = 0, *, directory: Path = DIRECTORY) -> Found:
    """As many calls in all, those of parts that are done already among them. CheckFailed as `conform.check`."""
    total = Found()
    whole = Plan("host", calls, seed or 1, jobs=2)
    subject = f"{results.engine_hash()[:16]}-{sha256(repr(coverable.wanted()).encode()).hexdigest()[:8]}"
    for number in range(PARTS):
        path = directory / f"conform-{subject}-{whole.seed}-{calls}-{number}.json"
        if not path.exists():
            part = Plan("host", calls // PARTS, whole.seed * PARTS + number, whole.jobs)
            found = conform.show(part)
            conform.check(part, found)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(to_json(found)))
        total.join(from_json(json.loads(path.read_text())))
    command = f"inv soak --calls {calls} --seed {whole.seed} --storms 0 --histories 0 --booted 0"
    conform.keep(whole, total, command=command)
    conform.check(whole, total, record=True)
    return total


def to_json(found: Found) -> dict[str, object]:
    """What was found without failures."""
    counts = {str(pair): count for pair, count in found.pairs.items()}
    machines = dict(found.machines)
    return {"calls": found.calls, "sequences": found.sequences, "machines": machines, "pairs": counts}


def from_json(document: dict[str, object]) -> Found:
    """The same back."""
    by_name = {str(pair): pair for pair in pairs.everything()}
    kept = Found(**document)  # type: ignore[arg-type]  # what to_json wrote
    kept.machines = Counter(kept.machines)
    kept.pairs = Counter({by_name[str(name)]: count for name, count in kept.pairs.items()})
    return kept
