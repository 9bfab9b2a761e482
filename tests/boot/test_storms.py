"""Lifecycle storms: create, run, kill, destroy, map, split, share, reclaim, CPUs off and on, from four CPUs at once.

A few by default; `inv soak` runs 200, goes on where it was interrupted, and leaves in `ci/baselines/storms.json` what
it found about which engine: of each call how often it was made, succeeded and was BUSY, on which CPUs. That record is a
claim: it fails here as soon as the engine is another one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from boot.storms import CPUS, EXITS, NOTHING, Counts, Storms
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
LEAST = 500
"""Calls that succeed in a storm; it is usually ten times as many."""
MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
"""Of the machine's CPUs: each storm has the next."""

REMOVED = {
    "scrubbing": Edit("engine/core/src/call/mod.rs", "hw.zero_frame(frame);", ""),
    "scrubbing of blocks": Edit("engine/core/src/call/mod.rs", "hw.zero_block(block);", ""),
    "the lock": Edit(
        "engine/arch/src/machine.rs", "let taken = exchange(LOCK.as_ptr(), 0, 1);", "let taken = true;"
    ),
}
"""Protections without which storms must come to grief."""
NEVER = {"version", "features", "log_read", "stats"}
"""Calls that a storm does not make: they change nothing."""
NO_STORM_HAS = {"MMIO_READ", "MMIO_WRITE", "SGI", "VGIC", "HOST_CALL", "DIED"}
"""Exits that the guest of a storm does not cause: others are about these."""


HAPPENS = {
    "cpu_off", "cpu_on", "looked_at", "faulted", "share", "unshare", "relinquish", "vcpu_on", "vcpu_off",
    "vm_off", "vm_reset",
}  # fmt: skip
"""Events of the host, and calls of VMs that the host learns of."""


def idle(counts: Counts) -> list[str]:
    """What a storm is about and did not happen."""
    calls = [name for name, call in counts.calls.items() if name not in NEVER and not call.succeeded]
    exits = [name for name in EXITS if name not in NO_STORM_HAS and not counts.exits.get(name)]
    events = [name for name in HAPPENS if not counts.events.get(name)]
    return calls + exits + events


class Progress:
    """What has been found about this engine so far, in a file that survives an interruption."""

    def __init__(self, name: str) -> None:
        self.engine, self.now = name, NOTHING
        self._path = ROOT / "build" / "soak" / f"storms-{name[:16]}-{storm_hash()}.json"
        self.storms: dict[str, dict[str, Any]] = (
            json.loads(self._path.read_text()) if self._path.exists() else {}
        )

    def note(self, seed: int, counts: Counts) -> None:
        """A storm is over, and all was well."""
        self.now += counts
        self.storms[str(seed)] = {"model": model_of(seed), **counts.record()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.storms))
        if len(self.storms) >= CLAIM:
            assert idle(self.counts()) == []
            baselines.keep("storms", self.found())

    def counts(self) -> Counts:
        """All storms together."""
        return sum((Counts.of(one) for one in self.storms.values()), NOTHING)

    def found(self) -> dict[str, Any]:
        """For a record: how many storms on which CPUs, how many calls, and what of each."""
        counts = self.counts()
        total = {"calls": counts.total.made, "successes": counts.total.succeeded, "busy": counts.total.busy}
        models = dict(Counter(one["model"] for one in self.storms.values()))
        return {"storms": len(self.storms), "models": models, "total": total, **counts.record()}


def model_of(seed: int) -> str:
    """The CPUs of the machine that a storm is on."""
    return MODELS[seed % len(MODELS)]


def storm_hash() -> str:
    """Of what makes a storm: results of another storm are not its own."""
    sources = [
        ROOT / "hypervisor-shim" / "payload" / "src" / name
        for name in ("storm.rs", "calls.rs", "gifts.rs", "tally.rs")
    ]
    sources += [ROOT / "tests" / "boot" / "storms.py"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


@pytest.fixture(scope="module")
def storms() -> Iterator[Callable[[str], Storms]]:
    """One machine of each model for all its storms: what one leaves behind, the next would meet."""
    with ExitStack() as running:
        machines: dict[str, Storms] = {}

        def on(model: str) -> Storms:
            if model not in machines:
                images, program = build.build("pinned", "payload"), str(qemu.ensure())
                backend = QemuBackend(images, program, cpus=CPUS, cpu_model=model)
                running.callback(backend.close)
                machines[model] = Storms(backend)
            return machines[model]

        yield on


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
    storms: Callable[[str], Storms], progress: Progress, pytestconfig: pytest.Config, seed: int
) -> None:
    if pytestconfig.getoption("--storms") and str(seed) in progress.storms:
        return  # found before the interruption, about this very engine
    counts = storms(model_of(seed)).run(seed)
    print(f"seed {seed} on {model_of(seed)}: {counts.record()}")
    assert counts.events["dirty"] == 0, "a frame that came back was not zero"
    assert counts.total.succeeded > LEAST, "a storm in name only"
    progress.note(seed, counts)


def test_storms_have_all_that_they_are_about(progress: Progress, pytestconfig: pytest.Config) -> None:
    """Each call has succeeded, each exit happened, CPUs went and came, frames were looked at when they came back."""
    counts = progress.counts() if pytestconfig.getoption("--storms") else progress.now
    assert idle(counts) == []
    assert counts.events["cpu_off"] - counts.events["cpu_off_refused"] > 5


@pytest.mark.parametrize("removed", REMOVED.values(), ids=REMOVED)
def test_a_storm_finds_what_is_removed(removed: Edit) -> None:
    backend = QemuBackend(build_variant([removed]), str(qemu.ensure()), cpus=CPUS)
    try:
        storms = Storms(backend)
        with pytest.raises((AssertionError, MachineError)):
            for seed in range(5):
                assert storms.run(seed).events["dirty"] == 0
    finally:
        backend.close()


def test_the_record_is_about_this_engine() -> None:
    assert baselines.claimed("storms")["storms"] >= CLAIM
