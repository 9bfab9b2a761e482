"""Lifecycle storms: create, run, kill, destroy, map, split, share, reclaim, CPUs off and on, from four CPUs at once.

A few by default; `inv soak` runs 200, goes on where it was interrupted, and leaves in `ci/baselines/storms.json` what
it found about which engine. That record is a claim: it fails here as soon as the engine is another one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boot.storms import CPUS, Storms
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.errors import MachineError
from bulkhead.image import build
from bulkhead.image.variant import Edit, build_variant
from bulkhead.provision import qemu
from bulkhead.report import baselines, results
from bulkhead.report.results import engine_hash

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = 8
CLAIM = 200

REMOVED = {
    "scrubbing": Edit("engine/core/src/call/mod.rs", "hw.zero_frame(frame);", ""),
    "the lock": Edit(
        "engine/arch/src/machine.rs", "let taken = exchange(LOCK.as_ptr(), 0, 1);", "let taken = true;"
    ),
}
"""Protections without which storms must come to grief."""

Counts = dict[str, int]


class Progress:
    """What has been found about this engine so far, in a file that survives an interruption."""

    def __init__(self, name: str) -> None:
        self.engine = name
        self._path = ROOT / "build" / "soak" / f"storms-{name[:16]}.json"
        self.storms: dict[str, Counts] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def note(self, seed: int, counts: Counts) -> None:
        """A storm is over, and all was well."""
        self.storms[str(seed)] = counts
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.storms))
        if len(self.storms) >= CLAIM:
            baselines.keep("storms", self.found())

    def found(self) -> dict[str, Any]:
        """All storms together."""
        total = Counter[str]()
        for counts in self.storms.values():
            total.update(counts)
        return {"storms": len(self.storms), "total": dict(total)}


@pytest.fixture(scope="module")
def storms() -> Iterator[Storms]:
    """One machine for all storms: what one leaves behind, the next would meet."""
    backend = QemuBackend(build.build("pinned", "payload"), str(qemu.ensure()), cpus=CPUS)
    try:
        yield Storms(backend)
    finally:
        backend.close()


@pytest.fixture(scope="module")
def progress() -> Iterator[Progress]:
    """Of all runs with this engine, which the report shows."""
    begin, made = time.monotonic(), Progress(engine_hash())
    yield made
    if made.storms:
        seconds, full = time.monotonic() - begin, len(made.storms) >= CLAIM
        command = f"inv soak --storms {len(made.storms)} --histories 0 --booted 0 --calls 0"
        results.write("storms", "qemu", made.found(), command=command, seconds=seconds, reduced=not full)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case for each seed."""
    if "seed" in metafunc.fixturenames:
        count = metafunc.config.getoption("--storms")
        metafunc.parametrize("seed", range(count or DEFAULT))


def test_a_storm_leaves_nothing(
    storms: Storms, progress: Progress, pytestconfig: pytest.Config, seed: int
) -> None:
    if pytestconfig.getoption("--storms") and str(seed) in progress.storms:
        return  # found before the interruption, about this very engine
    counts = storms.run(seed)
    print(f"seed {seed}: {counts}")
    assert counts["calls"] > counts["successes"] > 20
    progress.note(seed, counts)


@pytest.mark.parametrize("removed", REMOVED.values(), ids=REMOVED)
def test_a_storm_finds_what_is_removed(removed: Edit) -> None:
    backend = QemuBackend(build_variant([removed]), str(qemu.ensure()), cpus=CPUS)
    try:
        storms = Storms(backend)
        with pytest.raises((AssertionError, MachineError)):
            for seed in range(5):
                storms.run(seed)
    finally:
        backend.close()


def test_the_record_is_about_this_engine() -> None:
    assert baselines.claimed("storms")["storms"] >= CLAIM
