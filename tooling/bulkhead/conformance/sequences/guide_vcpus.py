"""Which step of a vCPU comes next: mostly one of the pairs that were seen least, by several steps if it takes them.

Trust label: TOOL. As `guide`: of several candidates that one is taken of which the specification says in advance that
it shows what is rarest.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.oracle.vcpus import IDS, VcpuOracle
from bulkhead.conformance.sequences import foresee
from bulkhead.conformance.sequences.aim import number
from bulkhead.conformance.sequences.propose_vcpus import DEVICE, IPAS, LAST, LIST, RAM, VcpuProposer
from bulkhead.conformance.sequences.steps import Step
from bulkhead.conformance.sequences.vcpu_steps import (
    ENTROPY,
    HOST_CALL,
    HVC,
    INTERRUPT,
    STARTED_TWICE,
    VALUES,
    VM_RUNS,
)
from bulkhead.spec.calls import tested
from bulkhead.spec.context import ContextWord
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import VCPUS_MAX, Run, VmWord
from bulkhead.spec.syndrome import EC_DATA_ABORT, ISV
from bulkhead.spec.words import minus

CPUS = 2
"""On how many CPUs vCPUs are run, so that they meet."""
AIMED, MOVES = 0.75, 0.1
"""Shares of steps that aim at a rare pair, and that take another CPU."""
RAREST, EVERY = 12, 8
"""Of how many of the rarest pairs one is aimed at, and after how many steps they are looked for again."""
ATTEMPTS = 12
"""Candidates for one step."""
LOCKED = 0.1
"""Share of candidates that find the ownership lock taken."""
SHARING = ("share", "unshare", "relinquish")
ENDS = ("VM: SError", *(tested.OF_VM + name for name in LAST[1:]))
"""What a VM does not survive: last steps of a sequence."""


class VcpuGuide:
    """Steps for the machine of an oracle, which counts the pairs that they show."""

    def __init__(self, oracle: VcpuOracle, random: Random) -> None:
        self.oracle, self.random = oracle, random
        self.proposer = VcpuProposer(oracle, random)
        self._targets: list[Pair] = []
        self._drawn = self._cpu = 0
        self._script: Iterator[Step] = iter(())

    def next(self) -> Step:
        """A step of a vCPU that is loaded, or one that is about vCPUs."""
        if (step := next(self._script, None)) is not None:
            return step
        if self.random.random() < MOVES:
            self._cpu = self.random.randrange(min(CPUS, self.oracle.machine.layout.cpus))
        cpu, chance = self._cpu, self.random.random()
        if self.oracle.loaded(cpu) is None:
            return self.proposer.run(cpu, True) if chance < 0.6 else self._toward(self._target(), cpu)
        if self.oracle.word(cpu, ContextWord.PENDING) and chance < 0.3:
            return self.proposer.run(cpu, True)
        if chance > 0.95:
            return Step(VM_RUNS, {"seed": self.random.getrandbits(32)}, cpu)
        if self.random.random() < AIMED:
            return self._toward(self._target(), cpu)
        return self._best([self.proposer.anything(cpu) for _ in range(ATTEMPTS)])

    def end(self) -> Iterator[Step]:
        """A VM that ends, in the way seen least; then what its vCPU still tries."""
        seen = self.oracle.pairs
        ways = sorted(ENDS, key=lambda name: seen[Pair(name, "SUCCESS alive")])
        if self.oracle.loaded(self._cpu) is None:
            yield self.proposer.run(self._cpu, True)
        for name in (ways[0], *self.random.sample(ways, 2)):
            yield self.proposer.of(name, self._cpu)

    def _target(self) -> Pair:
        """One of the pairs seen least."""
        if self._drawn % EVERY == 0:
            pairs = filter(self._is_possible, coverable.of_vcpus())
            self._targets = sorted(pairs, key=self.oracle.pairs.__getitem__)[:RAREST]
        self._drawn += 1
        return self.random.choice(self._targets)

    def _is_possible(self, pair: Pair) -> bool:
        """Whether this machine can show it while the VM lives."""
        has_answer = not pair.label.endswith("NOT_SUPPORTED")
        return pair.step not in ENDS and (
            "TRNG" not in pair.step or has_answer == bool(self.oracle.has_random)
        )

    def _toward(self, target: Pair, cpu: int) -> Step:
        """A step that may show the target, or the first of several that lead there."""
        script = self._script_of(target, cpu)
        if script is not None and (first := next(script, None)) is not None:
            self._script = script
            return first
        locked = target.label.endswith(("REPEAT", "lock taken"))
        steps = [self._at_times_locked(self.proposer.of(target.step, cpu), locked) for _ in range(ATTEMPTS)]
        return self._best(steps)

    def _best(self, steps: list[Step]) -> Step:
        """The one that shows what has been seen least."""
        seen, best, least = self.oracle.pairs, steps[0], float("inf")
        for step in steps:
            pair = foresee.pair(self.oracle, step)
            if pair is None or (pair.step in ENDS and self.random.random() < 0.99):
                continue
            count = seen[pair] * (0.5 + self.random.random())
            if count < least:
                best, least = step, count
        return best

    def _at_times_locked(self, step: Step, always: bool) -> Step:
        locked = always or self.random.random() < LOCKED
        return Step(step.name, step.arguments, step.cpu, locked=locked)

    # Several steps of one CPU that belong together

    def _script_of(self, target: Pair, cpu: int) -> Iterator[Step] | None:
        """Steps that lead to a pair, if it takes more than one."""
        name, shape = target.step.removeprefix(tested.OF_VM), target.label.removeprefix("SUCCESS").strip()
        if target.step == "vcpu_run" and shape != target.label:
            return self._reply(cpu, frozenset(filter(None, shape.split(", "))))
        if target.label.endswith("NO_ENTROPY"):
            return self._without_entropy(target, cpu)
        if target.label.endswith("ON_PENDING"):
            return self._started_twice(cpu)
        if target == Pair("VM: interrupt", "SUCCESS timer, timer delivered"):
            return self._timer(cpu)
        if target.step.startswith(tested.OF_VM) and name in SHARING and self.random.random() < 0.5:
            return self._sharing(cpu, name)
        return None

    def _reply(self, cpu: int, shape: frozenset[str]) -> Iterator[Step]:
        """An exit that waits for a reply, a timer interrupt that waits to be delivered, and the run that completes
        them, of a vCPU that is loaded meanwhile or is not.
        """
        vcpu = self.proposer.loaded(cpu)
        if vcpu is None:
            return
        yield Step("vcpu_run", {"vcpu": vcpu, "control": 0}, cpu)
        if "timer delivered" in shape:
            yield Step(INTERRUPT, {"intid": 27}, cpu)
        if "host_call answered" in shape:
            yield Step(HVC, {"x0": IDS["host_call"], "x1": 1}, cpu)
        elif "load answered" in shape:
            iss = 1 << ISV | 7 | self.random.getrandbits(9) << 15
            yield self.proposer.exception(cpu, EC_DATA_ABORT, iss, DEVICE)
        if "unloaded" in shape:
            bag = self.oracle.ghost.index.frames["vcpu"]
            if not bag:
                on = {"x0": IDS["PSCI_CPU_ON"], "x1": self.random.choice((1, 2)), "x2": RAM, "x3": 0}
                yield Step(HVC, on, cpu)
            if (frame := bag.any(self.random)) is not None:
                yield Step("vcpu_run", {"vcpu": self.oracle.machine.address(frame)}, cpu)
        elif "loaded" in shape:
            yield Step("vcpu_put", {}, cpu)
        control = 0xA001 if "timer delivered" in shape else 0
        reply = self.random.choice(VALUES)
        yield Step("vcpu_run", {"vcpu": vcpu, "reply": reply, "lr0": LIST | 40, "control": control}, cpu)

    def _started_twice(self, cpu: int) -> Iterator[Step]:
        """A vCPU that is off is turned on by two others."""
        frame, state, machine = self.oracle.loaded(cpu), self.oracle.ghost.state, self.oracle.machine
        if frame is None:
            return
        vm = state.frame[frame].vm
        for index in range(VCPUS_MAX):
            other = minus(state.vm_word(vm, VmWord.VCPU + index), 1)
            if state.vm_word(vm, VmWord.VCPU + index) and state.frame[other].parent == Run.OFF:
                arguments = {"vcpu": machine.address(number(other)), "affinity": index, "entry": RAM}
                yield Step(STARTED_TWICE, arguments, cpu)

    def _timer(self, cpu: int) -> Iterator[Step]:
        """The VM's timer, which it has enabled."""
        if (vcpu := self.proposer.loaded(cpu)) is not None:
            yield Step("vcpu_run", {"vcpu": vcpu, "control": 0xA001}, cpu)
            yield Step(INTERRUPT, {"intid": 27}, cpu)

    def _sharing(self, cpu: int, name: str) -> Iterator[Step]:
        """A page that is offered, accepted, and offered again, taken back or given away; or a block."""
        if self.proposer.loaded(cpu) is None:
            return
        ipa = self.random.choice((*IPAS[:2], RAM + BLOCK))
        vm = self.oracle.word(cpu, ContextWord.VM)
        for one in ("share", name):
            yield Step(HVC, {"x0": IDS[one], "x1": ipa, "x2": 0, "x3": 0}, cpu)
            if one == "share" and self.random.random() < 0.6:
                yield Step("share_accept", {"vm": vm, "ipa": ipa}, cpu)

    def _without_entropy(self, target: Pair, cpu: int) -> Iterator[Step]:
        """A random number, while the source is empty."""
        yield Step(ENTROPY, {"empty": 1}, cpu)
        name = HVC if target.step.startswith(tested.OF_VM) else HOST_CALL
        function = IDS[target.step.removeprefix(tested.OF_VM)]
        yield Step(name, {"x0": function, "x1": self.random.choice((1, 32, 64)), "x2": 0}, cpu)
        yield Step(ENTROPY, {"empty": 0}, cpu)
