"""Draws steps of vCPUs and calls beside ownership from what the ghost knows. Trust label: TOOL.

All choices come from one `random.Random`. Which of them is taken is for `guide_vcpus` to say.
"""

from __future__ import annotations

from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.oracle.vcpus import IDS, VcpuOracle
from bulkhead.conformance.sequences.steps import Step
from bulkhead.conformance.sequences.vcpu_steps import (
    EXCEPTION,
    HOST_CALL,
    HVC,
    INTERRUPT,
    SERROR,
    VALUES,
)
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.spec.calls import tested
from bulkhead.spec.calls.traps import IDENTIFICATION, IGNORED, named, packed
from bulkhead.spec.context import ContextWord
from bulkhead.spec.syndrome import (
    EC_DATA_ABORT,
    EC_HVC,
    EC_INSTRUCTION_ABORT,
    EC_SMC,
    EC_SYSTEM,
    EC_WFX,
    ISV,
    TABLE_WALK,
)

RAM, DEVICE = 0x4000_0000, 0x0900_0000
IPAS = (
    RAM,
    RAM + PAGE,
    RAM + 9 * PAGE,
    RAM + BLOCK,
    RAM + 2 * BLOCK,
    RAM + (1 << 30),
    DEVICE,
    RAM + 8,
    1 << 39,
)
LIST = 1 << 62 | 1 << 60
LISTS = (0, 0, LIST | 40, LIST | 41, 1 << 60 | 33, LIST | 27, LIST | 1 << 61, LIST | 1020)
CONTROLS = (0, 1, 0xA001, 7, 0xFF00, 1 << 3, 1 << 16)
DEBUG_REGISTERS = tuple(packed((2, 0, 0, number, op2)) for number in (0, 3, 5, 6, 15) for op2 in (4, 5, 6, 7))
UNKNOWN = (0, 5, 0xC600_0050, MASK, 0x8400_0005, 0xC600_0022, 1 << 32 | 0x8400_0000)
"""Ids that nobody has."""
LAST = ("PSCI_CPU_OFF", "PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET")
"""Calls behind which the vCPU runs no more."""
HOST_QUESTIONS = tuple(
    IDS[name] for name in tested.HOST_CALLS if name not in ("unknown", "vcpu_run", "vcpu_put")
)
VM_QUESTIONS = tuple(
    IDS[name]
    for name in (long.removeprefix(tested.OF_VM) for long in tested.VM_CALLS)
    if name not in ("unknown", *LAST)
)
ARGUMENTS = (0, 1, 2, 3, 63, 64, 65, 96, 97, 128, 192, 193, MASK, *(line.id for line in ABI.standards))
CLASSES = (EC_WFX, EC_HVC, EC_SMC, EC_SYSTEM, EC_INSTRUCTION_ABORT, EC_DATA_ABORT)
OTHERS = tuple(one for one in range(64) if one not in CLASSES)


class VcpuProposer:
    """Steps for the machine of an oracle."""

    def __init__(self, oracle: VcpuOracle, random: Random) -> None:
        self.oracle, self.random = oracle, random

    def anything(self, cpu: int) -> Step:
        """Any step on this CPU."""
        families = (self._host, self._call, self._call, self._abort, self._system, self._other)
        step = self.random.choice(families)(cpu)
        return Step(step.name, step.arguments, step.cpu, locked=self.random.random() < 0.1)

    def of(self, name: str, cpu: int) -> Step:
        """A step of this name, as in `calls.tested`."""
        short = name.removeprefix(tested.OF_VM)
        if name in tested.VM_CALLS:
            return self._named(short, cpu)
        if name == "vcpu_run":
            return self.run(cpu, self.random.random() < 0.3)
        if name == "vcpu_put":
            return Step(name, {}, cpu)
        if name in tested.HOST_CALLS:
            return self._ask(HOST_CALL, _id(name, self.random), cpu)
        match short:
            case "data abort" | "instruction abort":
                return self._abort(cpu, EC_DATA_ABORT if short == "data abort" else EC_INSTRUCTION_ABORT)
            case "system register":
                return self._system(cpu)
            case "WFx" | "SMC":
                exception_class = EC_WFX if short == "WFx" else EC_SMC
                return self.exception(cpu, exception_class, self.random.getrandbits(25), 0)
            case "interrupt":
                return self._interrupt(cpu)
            case "SError":
                return Step(SERROR, {}, cpu)
        return self.exception(cpu, self.random.choice(OTHERS), self.random.getrandbits(25), 0)

    def loaded(self, cpu: int) -> int | None:
        """The address of the vCPU that is loaded."""
        frame = self.oracle.loaded(cpu)
        return None if frame is None else self.oracle.machine.address(frame)

    def _host(self, cpu: int) -> Step:
        chance = self.random.random
        if chance() < 0.75:
            return self.run(cpu, chance() < 0.6)
        return Step("vcpu_put", {}, cpu) if chance() < 0.3 else self._question(HOST_CALL, HOST_QUESTIONS, cpu)

    def run(self, cpu: int, sane: bool) -> Step:
        """A `vcpu_run`; a sane one mostly goes on with the vCPU that is loaded."""
        pick, chance = self.random.choice, self.random.random
        again = self.loaded(cpu) if sane and chance() < 0.6 else None
        vcpu = self._vcpu() if again is None else again
        lists = {f"lr{n}": pick(LISTS) if not sane and chance() < 0.6 else 0 for n in range(3)}
        control = pick((0, 1, 0xA001)) if sane else pick(CONTROLS)
        return Step("vcpu_run", {"vcpu": vcpu, "reply": pick(VALUES), **lists, "control": control}, cpu)

    def _vcpu(self) -> int:
        """The address of a vCPU that can be run, of another one, or of something else."""
        index, base = self.oracle.ghost.index, self.oracle.machine.layout.ram_base
        ready, others = index.frames["vcpu"], ("loaded vcpu", "vcpu off", "host", "private page", "table 1")
        chance = self.random.random()
        bag = ready if chance < 0.8 and ready else index.frames[self.random.choice(others)]
        frame = bag.recent(self.random)
        if frame is None or chance > 0.9:
            blocks = [self.random.choice(list(bag)) for bag in index.blocks.values() if bag]
            return base + BLOCK * self.random.choice(blocks) + self.random.choice((0, 0, 1))
        return base + PAGE * frame

    def _question(self, name: str, functions: tuple[int, ...], cpu: int) -> Step:
        unknown = self.random.random() < 0.1
        return self._ask(name, self.random.choice(UNKNOWN if unknown else functions), cpu)

    def _ask(self, name: str, function: int, cpu: int) -> Step:
        pick = self.random.choice
        if function == IDS["stats"] and name == HOST_CALL:
            return Step(
                name, {"x0": function, "x1": pick((0, 1, 2, 3)), "x2": pick((0, 7, 63, 64, 1 << 32))}, cpu
            )
        return Step(name, {"x0": function, "x1": pick(ARGUMENTS), "x2": pick((0, 5, 64))}, cpu)

    def _call(self, cpu: int) -> Step:
        pick, chance = self.random.choice, self.random.random()
        if chance < 0.01:
            return self._named(pick(LAST), cpu)
        if chance < 0.3:
            return self._named("PSCI_CPU_ON", cpu)
        if chance < 0.38:
            return self._named("PSCI_AFFINITY_INFO", cpu)
        if chance < 0.65:
            return self._named(pick(("share", "share", "unshare", "relinquish")), cpu)
        return self._question(HVC, VM_QUESTIONS, cpu)

    def _named(self, name: str, cpu: int) -> Step:
        """A call of the vCPU."""
        pick = self.random.choice
        match name:
            case "PSCI_CPU_ON":
                arguments = (
                    pick((0, 1, 1, 2, 2, 3, 8, 1 << 8)),
                    pick((RAM, RAM, RAM + 2, 1 << 39)),
                    pick(VALUES),
                )
            case "PSCI_AFFINITY_INFO":
                arguments = (pick((0, 1, 2, 8)), pick((0, 0, 1)), 0)
            case "share" | "unshare" | "relinquish":
                arguments = (self._ipa(), pick((0, 0, 0, 0, 0, 1)), pick((0, 0, 0, 0, 0, 1)))
            case _:
                return self._ask(HVC, _id(name, self.random), cpu)
        x1, x2, x3 = arguments
        return Step(HVC, {"x0": IDS[name], "x1": x1, "x2": x2, "x3": x3}, cpu)

    def _ipa(self) -> int:
        """Where a VM may have a page: often one that it shares."""
        return self.random.choice((*IPAS, *IPAS[:2], DEVICE))

    def _abort(self, cpu: int, exception_class: int | None = None) -> Step:
        pick, ipa = self.random.choice, self.random.choice(IPAS)
        status = pick((4, 5, 6, 7, 7, 7, 7, 0xF, 0x10))
        iss = self.random.getrandbits(25) & ~0x3F | status | pick((1 << ISV, 1 << ISV, 0))
        if self.random.random() < 0.7:
            iss &= ~(1 << TABLE_WALK)
        if exception_class is None:
            exception_class = pick((EC_DATA_ABORT, EC_DATA_ABORT, EC_INSTRUCTION_ABORT))
        return self.exception(cpu, exception_class, iss, ipa)

    def _system(self, cpu: int) -> Step:
        pick = self.random.choice
        register = pick((
            named("ICC_SGI1R_EL1"), named("CNTPCT_EL0"), named("OSLSR_EL1"), named("MDSCR_EL1"), named("MDSCR_EL1"),
            pick(sorted(IGNORED)), pick(sorted(IGNORED)), pick(sorted(IDENTIFICATION)), pick(DEBUG_REGISTERS),
            pick(DEBUG_REGISTERS), packed((3, 4, 1, 0, 0)),
        ))  # fmt: skip
        transfer = self.random.randrange(32) << 5
        return self.exception(cpu, EC_SYSTEM, register | transfer | self.random.randrange(2), 0)

    def _other(self, cpu: int) -> Step:
        pick, chance = self.random.choice, self.random.random()
        if chance < 0.02:
            return Step(SERROR, {}, cpu)
        if chance < 0.1:
            vm = self.oracle.word(cpu, ContextWord.VM)
            return Step("share_accept", {"vm": vm, "ipa": pick(IPAS[:2])}, cpu)
        if chance < 0.4:
            return self._interrupt(cpu)
        exception_class = pick((EC_WFX, EC_SMC, pick(OTHERS)))
        return self.exception(cpu, exception_class, self.random.getrandbits(25), 0)

    def _interrupt(self, cpu: int) -> Step:
        return Step(INTERRUPT, {"intid": self.random.choice((25, 27, 27, 30, 8192, 1023))}, cpu)

    def exception(self, cpu: int, exception_class: int, iss: int, ipa: int) -> Step:
        """A synchronous exception, the address as the hardware tells it."""
        esr = exception_class << 26 | 1 << 25 | iss
        return Step(EXCEPTION, {"esr": esr, "far": ipa, "hpfar": ipa >> 12 << 4}, cpu)


def _id(name: str, random: Random) -> int:
    """The id of a call, or one that nobody has."""
    return random.choice(UNKNOWN) if name == "unknown" else IDS[name]
