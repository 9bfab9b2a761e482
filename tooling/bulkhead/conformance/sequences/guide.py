"""Which step comes next: half of them build something, half look for what has been seen least.

Trust label: TOOL. The specification tells in advance what a step would show, so that of several candidates the one
with the rarest pair is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from random import Random

from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.sequences.guide_vcpus import VcpuGuide
from bulkhead.conformance.sequences.propose import NAMES, Proposer
from bulkhead.conformance.sequences.scenes import SCENES, SCENES_OF, Scene, running
from bulkhead.conformance.sequences.steps import FIRST_TOUCH, RUNS, Step, specified
from bulkhead.spec import ARGUMENTS, CALLS, pairs
from bulkhead.spec.pairs import Pair

WEIGHTS = {
    "vm_create": 4, "table_donate": 8, "map": 10, "vcpu_create": 10, "vcpu_set_entry": 4, "activate": 8, "vm_kill": 1,
    "reclaim": 5, "table_reclaim": 2, "vm_destroy": 3, "map_block": 5,
    "reclaim_block": 3, "share_accept": 5, "share_release": 3, "dma_allow": 2, "dma_revoke": 2, "share": 6,
    "unshare": 3, "relinquish": 2, FIRST_TOUCH: 0.5, "vcpu_run": 3, "vcpu_put": 1,
}  # fmt: skip
"""How often a step is tried because it builds something."""
SPLITS = ("host_split", "vm_split")
"""Calls that cannot be undone: they succeed in their scene only."""
SCENE = 0.6
"""Share of steps that belong to a scene, as long as it lasts."""
BUILDING = 0.2
"""Share of steps that are to succeed."""
LENGTH, LIVELY_LENGTH = 50, 62
"""Steps of a sequence, at least, before all is destroyed: of any, and of one that is mostly about vCPUs that run."""
LIVELY = (0.25, 0.7)
"""Share of sequences that are mostly about vCPUs: if other pairs are behind, and if those of vCPUs are."""
AIMED, TARGETS, EVERY = 0.7, 8, 32
"""Share of scenes that lead to one of so many pairs seen least, which are looked for again after so many steps."""
VCPUS = 0.9
"""Share of steps, of those that belong to no scene, that vCPUs take, or that are about them, once there are some."""
WRITES, LOCKED = 0.06, 0.05
"""Share of steps that write to a page, and of calls that find the ownership lock taken."""
TRIES, RAREST, ATTEMPTS = 4, 4, 8


class Guide:
    """Chooses with one `random.Random`, knowing how often each pair was seen. `names` are the steps that the machine
    can take; a scene may have others, which are left out. `vcpus` has the steps of vCPUs, where they can be followed.
    """

    def __init__(
        self,
        proposer: Proposer,
        seen: Counter[Pair],
        random: Random,
        names: Collection[str] = NAMES,
        vcpus: VcpuGuide | None = None,
    ) -> None:
        self.proposer, self.random = proposer, random
        self._seen, self._names = seen, frozenset(names)
        self._specified = tuple(name for name in NAMES if name in self._names and name not in RUNS)
        self._vcpus = vcpus
        self._lively = False
        self._targets: list[Pair] = []
        self._drawn = 0
        self._scene: Iterator[Step] = iter(())
        self._reachable = {
            name: [pair for pair in _pairs_of(name) if pair not in pairs.UNREACHABLE]
            for name in self._specified
        }

    def begin(self) -> int:
        """A sequence begins, with one of the scenes; how many steps it has, at least."""
        self._lively = self._vcpus is not None and self.random.random() < self._share_of_vcpus()
        scene = running(self.proposer, 3) if self._lively else self._any_scene()
        self._scene = (step for step in scene if step.name in self._names)
        return LIVELY_LENGTH if self._lively else LENGTH

    def end(self) -> Iterator[Step]:
        """Last steps of a sequence, before all is destroyed."""
        return self._vcpus.end() if self._lively and self._vcpus is not None else iter(())

    def next(self) -> Step:
        """A step for the machine as it is."""
        if self.random.random() < SCENE and (step := next(self._scene, None)) is not None:
            return step
        if self._lively and self._vcpus and self._is_running() and self.random.random() < VCPUS:
            return self._vcpus.next()
        chance = self.random.random()
        if chance < WRITES and (step := self.proposer.write()) is not None:
            return step
        if chance > 1 - LOCKED and self._vcpus is not None:
            return self._locked()
        step = self._building() if chance < BUILDING else None
        return self._rarest() if step is None else step

    def _share_of_vcpus(self) -> float:
        """Of the sequences: more if their pairs are behind."""

        def rarest(some: Iterable[Pair]) -> int:
            return sum(sorted(map(self._seen.__getitem__, some))[:TARGETS])

        behind = rarest(coverable.of_vcpus()) < rarest(coverable.owned())
        return max(LIVELY) if behind else min(LIVELY)

    def _any_scene(self) -> Iterator[Step]:
        """Half the time one that leads to a pair seen least."""
        scenes, weights = zip(*SCENES, strict=True)
        self._target()
        aims = [SCENES_OF.get(target) or SCENES_OF.get(target.step, ()) for target in self._targets]
        aims = [some for some in dict.fromkeys(aims) if some]
        if aims and self.random.random() < AIMED:
            return self.random.choice(self.random.choice(aims[:2]))(self.proposer)
        scene: Scene = self.random.choices(scenes, weights)[0]
        return scene(self.proposer)

    def _target(self) -> Pair:
        """One of the pairs seen least."""
        if self._drawn % EVERY == 0:
            everything = [pair for own in self._reachable.values() for pair in own]
            self._targets = sorted(everything, key=self._seen.__getitem__)[:TARGETS]
        self._drawn += 1
        return self.random.choice(self._targets)

    def _locked(self) -> Step:
        """That call while the lock is taken which was seen least."""
        name = min(CALLS, key=lambda name: self._seen[pairs.busy(name)])
        step = self.proposer.likely(name) or self.proposer.unlikely(name)
        return Step(name, step.arguments, step.cpu, locked=True)

    def _is_running(self) -> bool:
        """Whether there are vCPUs that run or can run."""
        frames = self.proposer.ghost.index.frames
        return bool(frames["vcpu"] or frames["loaded vcpu"])

    def _building(self) -> Step | None:
        """A step that succeeds, None if none was found."""
        for _ in range(TRIES):
            name = self.random.choices(_NAMES, cum_weights=_WEIGHTS)[0]
            step = self.proposer.likely(name) if name in self._names else None
            if step is None:
                continue
            if name in RUNS:
                return step
            outcome = specified(self.proposer.ghost, step)
            if outcome is not None and outcome.success is True:
                return step
        return None

    def _rarest(self) -> Step:
        """Of some candidates the one that shows what has been seen least."""
        best: tuple[float, Step] | None = None
        candidates = self._candidates()
        while best is None:
            for step in candidates:
                outcome = specified(self.proposer.ghost, step)
                if outcome is None or (step.name in SPLITS and outcome.success is True):
                    continue
                seen = self._seen[pairs.of(step.name, outcome)] * (0.5 + self.random.random())
                if best is None or seen < best[0]:
                    best = seen, step
            candidates = [self.proposer.unlikely(self.random.choice(tuple(CALLS)))]
        return best[1]

    def _candidates(self) -> list[Step]:
        """Steps towards the rarest pairs of some calls, and a few of other calls."""
        names = self.random.sample(self._specified, 2 * RAREST)
        targets = [min(self._reachable[name], key=self._seen.__getitem__) for name in names]
        targets = [self._target(), *sorted(targets, key=self._seen.__getitem__)[:RAREST]]
        steps = [self._toward(target) for target in targets for _ in range(ATTEMPTS)]
        return [*steps, *(self.proposer.unlikely(name) for name in names[:2])]

    def _toward(self, pair: Pair) -> Step:
        """A step that may show this pair: the argument that its answer names is something else."""
        step, label = pair
        answer = _ANSWER.fullmatch(label)
        if answer is None:
            return self.proposer.likely(step) or self.proposer.unlikely(step)
        status, register = answer.groups()
        names = ARGUMENTS[step]
        argument = names[int(register) - 1] if register and status != "TABLE_MISSING" else None
        if status == "MEM_FAULT":
            argument = "ipa"
        if (
            argument is None
            and self.random.random() < 0.3
            and (likely := self.proposer.likely(step)) is not None
        ):
            return likely
        return self.proposer.unlikely(step, argument, status)


def _pairs_of(name: str) -> tuple[Pair, ...]:
    own = pairs.table()[name]
    return (*own.refusals, *own.successes.values())


_ANSWER = re.compile(r"\d+\. (?:exit )?(\w+)(?:\((\d+)\))?")
_NAMES = tuple(WEIGHTS)
_WEIGHTS = tuple(sum(list(WEIGHTS.values())[: end + 1]) for end in range(len(WEIGHTS)))
