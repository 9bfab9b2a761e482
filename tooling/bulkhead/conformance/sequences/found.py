"""What a conformance run is to do, and what it has found. Trust label: TOOL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bulkhead.conformance.sequences.life import Kit, Life
from bulkhead.conformance.sequences.steps import Step
from bulkhead.provision.paths import runner
from bulkhead.spec.pairs import Pair

Tell = Callable[[int], bool | None]
"""Called now and then with the number of calls made so far; True ends the run."""


@dataclass(frozen=True)
class Plan:
    """How many calls on which backend, drawn with which seed, in how many processes."""

    backend: str
    calls: int
    seed: int
    jobs: int = 1

    @property
    def command(self) -> str:
        """Does the same again."""
        return f"{runner()} conform --backend {self.backend} --calls {self.calls} --seed {self.seed} --jobs {self.jobs}"


@dataclass(frozen=True)
class Failure:
    """A machine that did not do as specified: what differed, and the steps that lead there."""

    message: str
    kit: Kit
    steps: tuple[Step, ...]


@dataclass
class Found:
    """Sums over machines. `pairs` counts what the specification says of each step."""

    calls: int = 0
    sequences: int = 0
    machines: Counter[str] = field(default_factory=Counter)
    """By name."""
    pairs: Counter[Pair] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def successes(self) -> int:
        """Calls and steps that succeeded."""
        return sum(count for pair, count in self.pairs.items() if pair.is_success)

    @property
    def share(self) -> float:
        """Of steps that succeeded."""
        return self.successes / max(self.pairs.total(), 1)

    def add(self, life: Life) -> None:
        """A machine whose life is over; its pairs are counted as they are seen."""
        self.calls += life.calls
        self.sequences += life.sequences
        self.machines[life.kit.name] += 1

    def join(self, other: Found) -> None:
        """What another process has found."""
        self.calls += other.calls
        self.sequences += other.sequences
        self.machines.update(other.machines)
        self.pairs.update(other.pairs)
        self.failures += other.failures
