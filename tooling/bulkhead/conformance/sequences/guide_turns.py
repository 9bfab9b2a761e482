"""Which turn of a vCPU of the booted engine, or which call beside ownership, comes next: one that shows what is rare.

Trust label: TOOL. As `guide_vcpus` on the host build: of several candidates that one is taken of which the
specification says in advance that it shows what was seen least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.trapping import Instruction
from bulkhead.conformance.oracle import coverable
from bulkhead.conformance.oracle.turn import NotForetold, fault_level
from bulkhead.conformance.oracle.vcpus import IDS
from bulkhead.conformance.sequences.aim import GIB, number
from bulkhead.conformance.sequences.booted_vcpus import BootedVcpus, Turn
from bulkhead.conformance.sequences.propose_vcpus import (
    ARGUMENTS,
    LISTS,
    UNKNOWN,
)
from bulkhead.conformance.sequences.vcpu_steps import VALUES
from bulkhead.conformance.testing.builder import RAM
from bulkhead.spec import pairs
from bulkhead.spec.calls import tested
from bulkhead.spec.context import RESET_SCTLR, ContextWord, Pending, register
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import CpuWord, Kind, Run, VmWord
from bulkhead.spec.syndrome import ISS

CANDIDATES = 16
"""Turns that are tried on the specification before one is taken."""
RAREST = 12
"""Of how many of the rarest pairs one is aimed at."""
LOCKED, STAYS = 0.1, 0.3
"""Shares of turns that find the ownership lock taken, and that leave the vCPU loaded."""
DEVICE = 0x0900_0000
DATA = tuple(RAM + n * PAGE for n in range(8, 12))
"""Pages that the host keeps mapped."""
BIG = RAM + BLOCK
"""A block that the host maps."""
ABSENT = (RAM + 20 * PAGE, RAM + 3 * BLOCK, RAM + 2 * GIB)
"""Declared RAM without a page, without a table of level 3, and without one of level 2."""
PLACES = (*ABSENT, *ABSENT, DEVICE, RAM + GIB, (1 << 39) - PAGE)
LAST_LEVEL, ACCEPTED = 3, 0.5
"""Of stage 2 tables; share of the VM's offers that the host takes up."""
EL1H, EL1T, EL0T = 0x5, 0x4, 0x0
FLAGS = (0, 0xF << 28, 1 << 22, 1 << 12, 0x5 << 28 | 1 << 22)
"""NZCV, PAN, SSBS."""
MASKED = 0x3C0
SCTLRS = (RESET_SCTLR, RESET_SCTLR & ~(1 << 23), RESET_SCTLR | 1 << 44)
"""As after reset; without SPAN; with DSSBS."""
CPACR = 0x333_0000
"""No traps of FP and SVE at EL1."""
FREE_SYSTEM = (
    "TPIDR_EL1", "TPIDR_EL0", "TPIDRRO_EL0", "SP_EL0", "SP_EL1", "ELR_EL1", "FAR_EL1", "TTBR0_EL1", "TTBR1_EL1",
)  # fmt: skip
"""Registers that a VM may fill as it likes while its MMU is off."""
EVEN = -2 & (1 << 64) - 1
LAST = ("PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET")


@dataclass(frozen=True)
class Asked:
    """A call of the host beside ownership, or, if `name` is not empty, that one about ownership while another CPU has
    the lock.
    """

    cpu: int
    registers: tuple[int, ...] = ()
    name: str = ""
    locked: bool = False


class Turns:
    """Takes turns with the vCPUs of one VM after the other; `counts` says how often each pair was seen."""

    VCPUS, RANGES = 3, (RAM, 8 << 20, RAM + 2 * GIB, PAGE, 0, 0, 0, 0)
    """What a VM must have: so many vCPUs, and these ranges of RAM."""

    def __init__(self, oracle: BootedVcpus, counts: Counter[Pair], random: Random) -> None:
        self.oracle, self.counts, self.random = oracle, counts, random
        everything = coverable.of_booted()
        without = [
            pair for pair in everything if "TRNG" in pair.step and pair.label.endswith("NOT_SUPPORTED")
        ]
        possible = [pair for pair in everything if pair not in without and self._is_possible(pair)]
        self._wanted = possible if oracle.has_random else without
        self._again: Pair | None = None

    def _is_possible(self, pair: Pair) -> bool:
        """Whether this machine can show it."""
        return pair.step != "VM: other exception" or self.oracle.has_sve

    @property
    def pages(self) -> list[bytes]:
        """What its first pages must hold."""
        return self.oracle.program.pages()

    def preparations(self, vm: int, free: Iterator[int]) -> Iterator[tuple[str, dict[str, int]]]:
        """Calls of the host that give the VM what it lacks, with frames of `free`, and accept what it offers."""
        state, layout = self.oracle.state, self.oracle.machine.layout
        for ipa in DATA:
            if fault_level(state, vm, ipa) == LAST_LEVEL:
                yield "map", {"vm": vm, "ipa": ipa, "frame": next(free), "mode": 0}
            elif self.random.random() < ACCEPTED:
                yield "share_accept", {"vm": vm, "ipa": ipa}
        blocks = [n for n in range(layout.blocks) if state.block[n].kind == Kind.HOST]
        others = [
            address for n in blocks if (address := layout.ram_base + n * BLOCK) not in self.oracle.programs
        ]
        if others and fault_level(state, vm, BIG) == LAST_LEVEL - 1:
            yield "map_block", {"vm": vm, "ipa": BIG, "block": others[0]}

    def rest(self) -> Iterator[tuple[Pair, ...]]:
        """Leaves no vCPU loaded; what this has shown, call by call."""
        __tracebackhide__ = True
        for cpu in range(self.oracle.machine.layout.cpus):
            if self.oracle.state.cpu_word(cpu, CpuWord.LOADED):
                yield (self.oracle.host_call(cpu, IDS["vcpu_put"]),)

    def next(self, vm: int) -> tuple[Pair, ...]:
        """Takes a turn with a vCPU of an active VM, or makes a call beside ownership; the pairs that it has shown."""
        __tracebackhide__ = True
        target, self._again = self._again or self._target(), None
        if "unloaded" in target.label and target.step == "vcpu_run" and (first := self._before_unloading(vm)):
            self._again = target
            return self._take(first)
        best, least = None, float("inf")
        for _ in range(CANDIDATES):
            candidate = self._candidate(vm, target)
            shown = self._foretold(candidate)
            if shown and (count := min(self.counts[pair] for pair in shown) + self.random.random()) < least:
                best, least = candidate, count
        return self._take(best) if best is not None else ()

    def _before_unloading(self, vm: int) -> Turn | None:
        """What it takes before one vCPU can make another one leave its CPU: that this is loaded, and that one is on."""
        state, machine = self.oracle.state, self.oracle.machine
        ready = [frame for frame in self._contexts(vm) if state.frame[frame].parent == Run.RUNNABLE]
        loaded = [
            (cpu, number(frame) - 1)
            for cpu in range(machine.layout.cpus)
            if (frame := state.cpu_word(cpu, CpuWord.LOADED))
        ]
        if not loaded and ready:
            vcpu = machine.address(ready[0])
            return Turn(0, vcpu, self._registers(vcpu) | self._stands("VM: WFx"), stays=True)
        if loaded and not ready and (off := self._off(vm)):
            (cpu, frame), (affinity, _) = loaded[0], off[0]
            words = self._registers(machine.address(frame)) | self._stands("VM: PSCI_CPU_ON")
            words |= {ContextWord.PSTATE: EL1H | MASKED, 1: affinity, 2: self.oracle.program.vectors}
            return Turn(cpu, machine.address(frame), words, stays=True)
        return None

    def _target(self) -> Pair:
        rare = sorted((self.counts[pair], self.random.random(), pair) for pair in self._wanted)
        return rare[self.random.randrange(min(RAREST, len(rare)))][2]

    def _take(self, candidate: Turn | Asked) -> tuple[Pair, ...]:
        __tracebackhide__ = True
        if isinstance(candidate, Turn):
            return self.oracle.turn(candidate)
        if candidate.name:
            self.oracle.refused_while_locked(candidate.name, cpu=candidate.cpu)
            return (pairs.busy(candidate.name),)
        return (self.oracle.host_call(candidate.cpu, *candidate.registers, locked=candidate.locked),)

    def _foretold(self, candidate: Turn | Asked) -> tuple[Pair, ...]:
        """What it would show; nothing if it must not be."""
        if isinstance(candidate, Asked):
            if candidate.name:
                return (pairs.busy(candidate.name),)
            return (self.oracle.foretell_call(candidate.cpu, candidate.registers, locked=candidate.locked),)
        try:
            course = self.oracle.foretell(candidate)
        except NotForetold:
            return ()
        return course.pairs if self._may_be(candidate, course.pairs) else ()

    def _may_be(self, turn: Turn, shown: Sequence[Pair]) -> bool:
        """Whether the VM can go on: it needs a vCPU that is on, and seldom ends."""
        steps = {pair.step for pair in shown}
        if steps & {tested.OF_VM + name for name in LAST}:
            return not turn.stays and self.random.random() < 0.1
        if "VM: PSCI_CPU_OFF" in steps:
            return self._ready(self.oracle.machine.index(turn.vcpu)) > 1
        return True

    def _ready(self, frame: int) -> int:
        """How many vCPUs of the VM of this one are on."""
        state = self.oracle.state
        vm = number(state.frame[frame].vm)
        runs = [state.frame[context].parent for context in self._contexts(vm)]
        return sum(bool(run != Run.OFF) for run in runs)

    def _contexts(self, vm: int) -> Iterator[int]:
        state = self.oracle.state
        for position in range(number(state.vm_word(vm, VmWord.VCPU_COUNT))):
            if frame := number(state.vm_word(vm, VmWord.VCPU + position)):
                yield frame - 1

    # Candidates

    def _candidate(self, vm: int, target: Pair) -> Turn | Asked:
        """Something that may show the target, or anything."""
        cpu = self.random.randrange(self.oracle.machine.layout.cpus)
        step = target.step if self.random.random() < 0.8 else self.random.choice(self._wanted).step
        if target.label == pairs.busy(step).label:
            return Asked(cpu, name=target.step)
        if step in tested.POWER:
            return self._power_call(cpu, step)
        if step in tested.HOST_CALLS and step != "vcpu_run":
            return self._host_call(cpu, step)
        return self._turn(cpu, vm, step, target)

    def _host_call(self, cpu: int, step: str) -> Asked:
        pick = self.random.choice
        function = pick(UNKNOWN) if step == "unknown" else IDS[step]
        first = pick((0, 1, 2, 3)) if step == "stats" else pick(ARGUMENTS)
        return Asked(cpu, (function, first, pick((0, 5, 6, 63, 64, 1 << 32))))

    def _power_call(self, cpu: int, step: str) -> Asked:
        """Not one that turns this machine off: that is refused while the lock is taken."""
        pick, ends = self.random.choice, step in LAST
        entry = 0 if ends else pick((0, 4, 2, RAM + 1))
        return Asked(cpu, (IDS[step], pick((0, 1, 2, 8, 1 << 8)), entry, pick(VALUES)), locked=ends)

    def _turn(self, cpu: int, vm: int, step: str, target: Pair) -> Turn:
        """One in which the VM takes this step."""
        if step == "vcpu_run":
            return self._run(cpu, vm, target.label)
        pick, chance = self.random.choice, self.random.random
        vcpu = self.oracle.machine.address(pick(tuple(self._contexts(vm))))
        words = self._registers(vcpu) | self._stands(step)
        if "timer" in target.label and chance() < 0.8:
            words[register("CNTV_CTL_EL0")], words[register("CNTV_CVAL_EL0")] = 1, 0
        control = pick((0xA001, 1)) if "delivered" in target.label else pick((0, 0, 1, 0xA001, 7, 2))
        locked = target.label.endswith(("REPEAT", "lock taken")) or chance() < LOCKED
        starting = None
        if target.label.endswith("ON_PENDING") and (off := self._off(vm)):
            affinity, starting = pick(off)
            words |= dict(enumerate((IDS["PSCI_CPU_ON"], affinity, self.oracle.program.vectors, 0)))
        return Turn(
            cpu,
            vcpu,
            words,
            pick(VALUES),
            control=control,
            stays=chance() < STAYS,
            locked=locked,
            starting=starting,
        )

    def _off(self, vm: int) -> list[tuple[int, int]]:
        """Numbers and frames of vCPUs that are off."""
        state = self.oracle.state
        return [
            (index, frame)
            for index, frame in enumerate(self._contexts(vm))
            if state.frame[frame].parent == Run.OFF
        ]

    def _stands(self, step: str) -> dict[int, int]:
        """The instruction of a step, and what its registers must hold."""
        program, pick = self.oracle.program, self.random.choice
        if step == "VM: instruction abort":
            return {ContextWord.PC: pick(PLACES) + pick((0, 4, PAGE - 4))}
        one = self._instruction(step)
        words, transfer = {ContextWord.PC: program.places[one]}, one.word & 0x1F
        if one in program.moves and transfer != ContextWord.ZERO:
            words[transfer] = (
                self.random.getrandbits(64) & EVEN
            )  # an enabled breakpoint could stop the program
        if one.base is not None:
            words[one.base] = self._place(one)
        return words | dict(enumerate(self._call(step))) if one is program.call else words

    def _run(self, cpu: int, vm: int, label: str) -> Turn:
        """A `vcpu_run` that may end like this."""
        pick, chance, oracle = self.random.choice, self.random.random, self.oracle
        contexts = [oracle.machine.address(frame) for frame in self._contexts(vm)]
        busy = [
            cpu for cpu in range(oracle.machine.layout.cpus) if oracle.state.cpu_word(cpu, CpuWord.LOADED)
        ]
        if label[0].isdigit() and chance() < 0.6:
            return Turn(cpu, self._odd(), lists=self._lists(), control=pick((0, 1 << 3, 1 << 16)))
        vcpu = pick(contexts)
        if "unloaded" in label and busy:
            ready = [
                one
                for one in contexts
                if oracle.state.frame[oracle.machine.index(one)].parent == Run.RUNNABLE
            ]
            cpu, vcpu = pick(busy), pick(ready or contexts)
        words = self._registers(vcpu) | self._stands("VM: WFx")
        words[ContextWord.TIMER_PENDING] = int("timer" in label)
        words[ContextWord.PENDING] = self._pending(label)
        control = pick((0xA001, 1)) if "timer" in label else pick((0, 1, 0xA001, 7, 1 << 3, 1 << 16))
        return Turn(cpu, vcpu, words, pick(VALUES), self._lists(), control, stays=chance() < STAYS)

    def _lists(self) -> tuple[int, int, int]:
        """List registers, mostly empty."""
        if self.random.random() < 0.7:
            return 0, 0, 0
        return self.random.choice(LISTS), self.random.choice(LISTS), self.random.choice(LISTS)

    def _pending(self, label: str) -> int:
        """An exit that waits for its reply, or none."""
        if "load answered" in label:
            return Pending.LOAD | self.random.getrandbits(25) & ISS
        return Pending.HOST_CALL if "host_call" in label else Pending.NOTHING

    def _registers(self, vcpu: int) -> dict[int, int]:
        """What the VM has in its registers. What stays in the CPU while the vCPU is loaded is left alone then."""
        pick, bits = self.random.choice, self.random.getrandbits
        words = {x: pick((bits(64), pick(VALUES))) for x in range(ContextWord.ZERO)}
        level = pick((EL1H, EL1H, EL1T, EL0T))
        words[ContextWord.PSTATE] = level | pick((MASKED, MASKED, bits(4) << 6)) | pick(FLAGS)
        system = {name: bits(64) for name in FREE_SYSTEM[:7]}
        system |= {"VBAR_EL1": self.oracle.program.vectors, "SCTLR_EL1": pick(SCTLRS), "CPACR_EL1": CPACR}
        system |= {"CNTV_CTL_EL0": pick((0, 3)), "CNTV_CVAL_EL0": 1 << 62}
        words |= {ContextWord.PENDING: 0, ContextWord.TIMER_PENDING: 0}
        if self.oracle.state.frame[self.oracle.machine.index(vcpu)].parent == Run.RUNNABLE:
            system |= {name: bits(64) for name in FREE_SYSTEM[7:]}
            words |= {ContextWord.TIMER_LIST: 0, ContextWord.TIMER_ACTIVE: 0}
            words |= {word: bits(64) for word in range(ContextWord.V, ContextWord.DEBUG)}
        return words | {register(name): value for name, value in system.items()}

    def _instruction(self, step: str) -> Instruction:
        program, pick = self.oracle.program, self.random.choice
        kinds: dict[str, Callable[[], Instruction]] = {
            "VM: WFx": lambda: program.wait,
            "VM: SMC": lambda: program.smc,
            "VM: other exception": lambda: program.sve if self.oracle.has_sve else program.wait,
            "VM: system register": lambda: pick(program.moves),
            "VM: data abort": lambda: pick(program.accesses),
            "VM: interrupt": lambda: pick((program.wait, program.spin)),
        }
        return program.call if step in tested.VM_CALLS else kinds.get(step, lambda: program.wait)()

    def _place(self, one: Instruction) -> int:
        """Where a load or store goes, aligned."""
        return self.random.choice(PLACES) + self.random.choice((0, 8, PAGE - 16)) // one.bytes * one.bytes

    def _call(self, step: str) -> tuple[int, ...]:
        """x0, x1, ... of a call of a VM."""
        pick, name = self.random.choice, step.removeprefix(tested.OF_VM)
        match name:
            case "PSCI_CPU_ON":
                entry = pick((self.oracle.program.vectors, RAM + 2, 1 << 39))
                return IDS[name], pick((0, 1, 1, 2, 2, 3, 8, 1 << 8)), entry, pick(VALUES)
            case "PSCI_AFFINITY_INFO":
                return IDS[name], pick((0, 1, 2, 8)), pick((0, 0, 1))
            case "share" | "unshare" | "relinquish":
                zeros = (pick((0, 0, 0, 0, 1)), pick((0, 0, 0, 0, 1)))
                return IDS[name], pick((*DATA, *DATA, BIG, *ABSENT, DEVICE, RAM + 8 * PAGE + 8)), *zeros
            case "unknown":
                return pick(UNKNOWN), pick(ARGUMENTS), 0
        return IDS[name], pick(ARGUMENTS), pick((0, 5, 64))

    def _odd(self) -> int:
        """The address of something that is not a vCPU that can be run."""
        machine, state, pick = self.oracle.machine, self.oracle.state, self.random.choice
        kinds = {state.block[block].kind: block for block in range(machine.layout.blocks)}
        places = [machine.layout.ram_base + BLOCK * block for block in kinds.values()]
        off = [
            machine.address(frame)
            for vm in range(64)
            for frame in self._contexts(vm)
            if state.frame[frame].parent != Run.RUNNABLE
        ]
        return pick((pick(places), pick(places) + 1, machine.layout.split_block, *off, *off))
