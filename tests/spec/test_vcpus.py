"""vCPUs, calls and exits on the fake machine against the specification: every way through each definition."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.conformance.host import HostBackend
from bulkhead.conformance.machine import ABI, MASK
from bulkhead.conformance.vcpus import VcpuOracle
from bulkhead.spec import pairs, plain
from bulkhead.spec.calls import tested
from bulkhead.spec.calls.traps import IDENTIFICATION, IGNORED, named, packed
from bulkhead.spec.context import ContextWord, register
from bulkhead.spec.invariants import OF_VCPUS
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import CpuWord, Kind, Run

pytestmark = pytest.mark.host

RAM, DEVICE = 0x4000_0000, 0x0900_0000
SMALL = ((0x4000_0000, 16 << 20),)
LIST = 1 << 62 | 1 << 60
ISV, WRITE, WALK = 1 << 24, 1 << 6, 1 << 7
EC = {"WFx": 0x01, "FP": 0x07, "HVC": 0x16, "SMC": 0x17, "system": 0x18, "fetch": 0x20, "data": 0x24}
PSTATES = (0x3C5, 0x3C4, 0x3C0, 0x3C5 | 1 << 22, 0x3C5 | 1 << 24 | 1 << 21 | 3 << 10, 0x1D0, 0xF000_03C5)
"""EL1h, EL1t, EL0, with PAN, with DIT, SS and BTYPE, AArch32, with flags."""
VALUES = (0, 1, MASK, 0x8000_0000_0000_0000, 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFF_8000_0080)
DEBUG_REGISTERS = [packed((2, 0, 0, number, op2)) for number in (0, 3, 5, 6, 15) for op2 in (4, 5, 6, 7)]


class Scene:
    """A VM with three vCPUs (the first can run), a page, a block, and another VM with one vCPU."""

    def __init__(self, seed: int, features: int = 3) -> None:
        self.backend = HostBackend(SMALL, cpus=2, features=features)
        self.machine = Machine(self.backend)
        self.choices = random.Random(seed)
        self.vm = Vm(self.machine, ram=((RAM, 64 << 20), (RAM + (1 << 30), BLOCK)), vcpus=3)
        for page in range(4):
            self.vm.page(RAM + page * PAGE)
        self.vm.block(RAM + BLOCK)
        self.vm.activate()
        self.other = Vm(self.machine, slot=1).cover()
        self.other.page()
        self.other.activate()
        self.new = Vm(self.machine, slot=2, vcpus=1)
        self.new.vcpu()
        for number in range(64):
            self.backend.identification[number] = self.choices.getrandbits(64)
        self.backend.identification[5 << 3] = 0x0020_5000 | self.choices.choice((0, 0xF0_0000))
        self.follower = VcpuOracle(self.machine)

    def vcpus(self) -> list[int]:
        """Frames that vcpu_run can be asked for."""
        odd = [self.machine.layout.end, self.vm.blocks[RAM + BLOCK], 1, self.vm.pages[RAM], self.vm.root]
        whole = self.machine.layout.ram_base
        return [
            *self.vm.contexts.values(),
            *self.other.contexts.values(),
            *self.new.contexts.values(),
            *odd,
            whole,
        ]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """For tests of one thing."""
    one = Scene(0)
    yield one
    one.backend.close()


class Walk:
    """Random steps on a scene, likely ones first."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.choices, self.follower = scene, scene.choices, scene.follower

    def step(self) -> None:
        """One step of the host or of a vCPU that is loaded."""
        cpu = self.choices.randrange(2)
        loaded = int(self.scene.backend.cpu(cpu).loaded)
        self._surroundings(cpu)
        if not loaded or self.choices.random() < 0.2:
            self._host(cpu)
        else:
            self._vm_runs(cpu)
            self.choices.choice((self._call, self._call, self._abort, self._system, self._other))(cpu)

    def _surroundings(self, cpu: int) -> None:
        self.follower.hold_lock(self.choices.random() < 0.1)
        self.follower.hold_entropy(self.choices.random() < 0.2)
        self.scene.backend.cpu(cpu).maintenance = self.choices.getrandbits(8)

    def _vm_runs(self, cpu: int) -> None:
        """The VM changes some of its registers."""
        pick = self.choices.choice
        if self.choices.random() < 0.5:
            self.follower.set_word(cpu, ContextWord.PSTATE, pick(PSTATES))
            self.follower.set_word(cpu, register("SCTLR_EL1"), pick((0, 1 << 23)))
            self.follower.set_word(cpu, register("VBAR_EL1"), pick(VALUES) & -2048 & MASK)
            self.follower.set_word(cpu, register("CNTV_CTL_EL0"), pick((0, 1, 2, 3, 5)))
            self.follower.set_word(cpu, register("CNTV_CVAL_EL0"), pick(VALUES))
        for number in self.choices.sample(range(31), 3):
            self.follower.set_word(cpu, number, pick(VALUES))

    def _host(self, cpu: int) -> None:
        pick, chance = self.choices.choice, self.choices.random
        kind = chance()
        if kind < 0.6:
            vcpu = pick(list(self.scene.vm.contexts.values())) if chance() < 0.5 else pick(self.scene.vcpus())
            lists = [0, 0, 0]
            if chance() < 0.4:
                lists = [
                    pick((0, 0, LIST | 40, LIST | 41, 1 << 60 | 33, LIST | 27, LIST | 1 << 61)) for _ in lists
                ]
            control = pick((0, 1, 0xA001, 7, 0xFF00)) if chance() < 0.9 else 1 << pick((3, 16, 63))
            self.follower.host_call(cpu, "vcpu_run", vcpu, pick(VALUES), *lists, control)
        elif kind < 0.7:
            self.follower.host_call(cpu, "vcpu_put")
        else:
            self._question(cpu, self.follower.host_call, HOST_QUESTIONS)

    def _question(self, cpu: int, ask: Callable[..., object], functions: tuple[str, ...]) -> None:
        pick = self.choices.choice
        if self.choices.random() < 0.1:
            ask(cpu, pick((0, 5, 0xC600_0050, MASK, 0x8400_0005, 0xC600_0022, 1 << 32 | 0x8400_0000)))
            return
        argument = pick(
            (0, 1, 2, 3, 63, 64, 96, 97, 128, 192, 193, MASK, *(line.id for line in ABI.standards))
        )
        ask(cpu, pick(functions), argument, pick((0, 5, 64)))

    def _call(self, cpu: int) -> None:
        pick = self.choices.choice
        kind = self.choices.random()
        if kind < 0.3:
            entry = pick((RAM, RAM, RAM + 2, 1 << 39))
            self.follower.hvc(cpu, "PSCI_CPU_ON", pick((0, 1, 1, 2, 2, 3, 8, 1 << 8)), entry, pick(VALUES))
        elif kind < 0.4:
            self.follower.hvc(cpu, "PSCI_AFFINITY_INFO", pick((0, 1, 2, 3)), pick((0, 0, 1)))
        elif kind < 0.65:
            ipa = pick(
                (
                    RAM,
                    RAM + PAGE,
                    RAM + 9 * PAGE,
                    RAM + BLOCK,
                    RAM + 2 * BLOCK,
                    RAM + (1 << 30),
                    DEVICE,
                    RAM + 1,
                )
            )
            rest = (pick((0, 0, 0, 0, 1)), pick((0, 0, 0, 0, 1)))
            self.follower.hvc(cpu, pick(("share", "share", "unshare", "relinquish")), ipa, *rest)
        else:
            self._question(cpu, self.follower.hvc, VM_QUESTIONS)

    def _abort(self, cpu: int) -> None:
        pick, bits = self.choices.choice, self.choices.getrandbits
        ipa = pick(
            (
                RAM,
                RAM + 8,
                RAM + 12 * PAGE,
                RAM + BLOCK,
                RAM + 3 * BLOCK,
                RAM + (1 << 30),
                DEVICE,
                1 << 39,
                1 << 47,
            )
        )
        iss = bits(25) & ~0x3F | pick((4, 5, 6, 7, 7, 7, 7, 0xF, 0x10)) | pick((ISV, ISV, 0))
        if self.choices.random() < 0.7:
            iss &= ~WALK
        self.follower.exception(
            cpu, EC[pick(("data", "data", "fetch"))] << 26 | 1 << 25 | iss, ipa, ipa >> 8 & ~0xF
        )

    def _system(self, cpu: int) -> None:
        pick = self.choices.choice
        encoding = pick((
            named("ICC_SGI1R_EL1"), named("CNTPCT_EL0"), named("OSLSR_EL1"), named("MDSCR_EL1"), named("MDSCR_EL1"),
            pick(sorted(IGNORED)), pick(sorted(IDENTIFICATION)), pick(DEBUG_REGISTERS), pick(DEBUG_REGISTERS),
            self.choices.getrandbits(22) & named("ICC_SGI1R_EL1"), packed((3, 4, 1, 0, 0)),
        ))  # fmt: skip
        transfer = self.choices.randrange(32) << 5
        self.follower.exception(cpu, EC["system"] << 26 | encoding | transfer | self.choices.randrange(2))

    def _other(self, cpu: int) -> None:
        pick = self.choices.choice
        kind = self.choices.random()
        if kind < 0.3:
            self.follower.interrupt(cpu, pick((25, 27, 27, 30, 8192, 1023)))
        elif kind < 0.5:
            self.follower.exception(cpu, EC["WFx"] << 26 | self.choices.getrandbits(25))
        elif kind < 0.7:
            self.follower.exception(cpu, EC["SMC"] << 26)
        else:
            others = [one for one in range(64) if one not in EC.values()]
            self.follower.exception(cpu, pick((*others, EC["FP"])) << 26 | self.choices.getrandbits(25))


HOST_QUESTIONS = tuple(name for name in tested.HOST_CALLS if name not in ("unknown", "vcpu_run", "vcpu_put"))
VM_QUESTIONS = tuple(
    name.removeprefix(tested.OF_VM)
    for name in tested.VM_CALLS
    if name.removeprefix(tested.OF_VM)
    not in ("unknown", "PSCI_CPU_OFF", "PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET")
)
"""What can be asked again and again."""


SEEDS = range(4)
IN_ARCH = {"VM: fast interrupt"}
"""Steps that `engine/arch` decides by itself."""


def walked(seed: int, steps: int) -> Counter[Pair]:
    """What some random steps have shown."""
    scene = Scene(seed, features=(3, 3, 1, 0)[seed])
    walk = Walk(scene)
    for number in range(steps):
        walk.step()
        if number % 20 == 0:
            check_loaded(scene.follower)
    scene.backend.close()
    return scene.follower.seen


def check_loaded(follower: VcpuOracle) -> None:
    """Records and CPUs agree on what is loaded."""
    state = follower.ghost.state
    for cpu in range(2):
        if state.cpu_word(cpu, CpuWord.LOADED):
            assert all(holds(state, cpu << 1) for _, holds in OF_VCPUS["cpu"])
    first = follower.machine.layout.split_block - follower.machine.layout.ram_base >> 12
    for frame in range(first, first + 64):
        if state.frame[frame].kind == Kind.VCPU:
            assert all(holds(state, frame) for _, holds in OF_VCPUS["frame"])


@pytest.mark.parametrize("seed", SEEDS)
def test_random_steps(seed: int) -> None:
    assert len(walked(seed, 150)) > 45


@pytest.mark.slow
def test_every_way_through_every_definition(scene: Scene) -> None:
    covered = Counter[Pair]()
    for seed in SEEDS:
        covered += walked(seed, 500)
    for rare in (replies, deaths, sharing, questions, cpu_on_while_another_is):
        other = Scene(0)
        rare(other)
        covered += other.follower.seen
        other.backend.close()
    missing = [str(pair) for pair in pairs.tested_pairs() if pair not in covered and pair.step not in IN_ARCH]
    assert not missing


def replies(scene: Scene) -> None:
    """vcpu_run with each kind of answer, timer and place."""
    follower, vcpu, other = scene.follower, scene.vm.contexts[0], scene.other.contexts[0]
    follower.host_call(0, "vcpu_run", vcpu, 0, 0, 0, 0, 0)
    for before, timer, answer in product(("", "put", "another"), (False, True), ("", "host_call", "load")):
        if timer:
            follower.interrupt(0, 27)
        if answer == "host_call":
            follower.hvc(0, "host_call", 1, 2, 3)
        if answer == "load":
            follower.exception(0, EC["data"] << 26 | ISV | 7 | 5 << 16 | 2 << 22, DEVICE, DEVICE >> 8)
        if before == "put":
            follower.host_call(0, "vcpu_put")
        if before == "another":
            follower.host_call(0, "vcpu_run", other, 0, 0, 0, 0, 0)
        follower.host_call(0, "vcpu_run", vcpu, 0xFEDC_BA98_7654_3210, LIST | 40, 0, 0, 0xA001)
        follower.host_call(0, "vcpu_run", vcpu, 0xFFFF_FFFF, 0, 0, 0, 0)


def deaths(scene: Scene) -> None:
    """Of a VM by its own decision or by an error, once more when it is dead already, and of a vCPU."""
    follower = scene.follower
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    follower.host_call(1, "vcpu_run", scene.other.contexts[0], 0, 0, 0, 0, 0)
    for function in ("PSCI_SYSTEM_OFF", "PSCI_SYSTEM_RESET"):
        follower.hvc(0, function)
    follower.hvc(1, "PSCI_SYSTEM_RESET")
    follower.hvc(1, "PSCI_SYSTEM_OFF")
    follower.system_error(0)
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    follower.hvc(0, "PSCI_CPU_OFF")
    third = Vm(scene.machine, slot=3).activate()
    follower.forget()
    follower.host_call(0, "vcpu_run", third.contexts[0], 0, 0, 0, 0, 0)
    follower.system_error(0)


def sharing(scene: Scene) -> None:
    """A page is offered, accepted and taken back, or given away."""
    follower = scene.follower
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    for taken_back in ("unshare", "relinquish"):
        follower.hvc(0, "share", RAM, 0, 0)
        follower.hvc(0, "share", RAM, 0, 0)
        for held in (True, False):
            follower.hold_lock(held)
            follower.host_call(1, "share_accept", 0, RAM)
        follower.hold_lock(True)
        follower.hvc(0, taken_back, RAM, 0, 0)
        follower.exception(0, EC["data"] << 26 | 7, RAM, RAM >> 8)
        follower.hold_lock(False)
        follower.hvc(0, taken_back, RAM, 0, 0)
    for far in (RAM, RAM + 2 * BLOCK, RAM + (1 << 30)):
        follower.hvc(0, "relinquish", far, 0, 0)
        follower.hvc(0, "unshare", far, 0, 0)


def questions(scene: Scene) -> None:
    """TRNG without entropy and with it, `stats` of all kinds, writes that are ignored, a block that nobody touched."""
    follower = scene.follower
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    for empty, function, bits in product(
        (True, False), ("TRNG_RND32", "TRNG_RND64"), (0, 1, 63, 64, 65, 96, 128, 192)
    ):
        follower.hold_entropy(empty)
        follower.host_call(0, function, bits)
        follower.hvc(0, function, bits)
    follower.hvc(0, "TRNG_FEATURES", 0x8400_0053)
    for kind, index in product((0, 1, 2, 3), (0, 7, 8, 63, 64, 1 << 32)):
        follower.host_call(0, "stats", kind, index)
    for register_, transfer in product(sorted(IGNORED)[::7], (3, 31)):
        follower.exception(0, EC["system"] << 26 | register_ | transfer << 5)
    (block,) = scene.backend.leave_untouched(1)
    follower.forget()
    follower.host_call(0, "vcpu_run", block, 0, 0, 0, 0, 0)


def cpu_on_while_another_is(scene: Scene) -> None:
    """CPU_ON of a vCPU on whose context another CPU is working just now."""
    follower, vcpu = scene.follower, scene.vm.contexts[1]
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    frame = scene.machine.index(vcpu)
    record = plain.pack(follower.ghost.state.frame[frame]._replace(parent=Run.TRANSIT))
    follower.ghost.write(scene.machine.layout.frame_records + 8 * frame, record.to_bytes(8, "little"))
    follower.hvc(0, "PSCI_CPU_ON", 1, RAM, 0)
    follower.hvc(0, "PSCI_AFFINITY_INFO", 1, 0)
    follower.host_call(1, "vcpu_run", vcpu, 0, 0, 0, 0, 0)


def test_every_ownership_call_is_busy_while_another_cpu_has_the_lock(scene: Scene) -> None:
    scene.follower.hold_lock(True)
    for name in tested.LOCKED_CALLS:
        scene.follower.host_call(0, name, *range(12))
    scene.follower.hold_lock(False)
    for name in tested.LOCKED_CALLS:
        called = scene.follower.host_call(0, name, *[MASK] * 12)
        assert called.outcome.needs[0].condition is True


def test_an_entry_that_was_set_is_in_the_context(scene: Scene) -> None:
    """`vcpu_set_entry`, whose context the prover leaves to the leaf that writes it."""
    scene.follower.host_call(0, "vcpu_set_entry", scene.new.contexts[0], RAM + 4, 77)


@pytest.mark.parametrize("function", ["PSCI_FEATURES", "SMCCC_ARCH_FEATURES", "TRNG_FEATURES"])
@pytest.mark.parametrize("asked", ["PSCI_CPU_OFF", "SMCCC_VERSION", "TRNG_VERSION"])
def test_a_32_bit_call_has_32_bit_arguments(scene: Scene, function: str, asked: str) -> None:
    """They are in w1 and up, whatever the upper halves hold (DEN 0028)."""
    number = next(line.id for line in ABI.standards if line.name == asked)
    scene.follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    for upper in (0, 0xFFFF_FFFF << 32, 1 << 32):
        scene.follower.host_call(0, function, upper | number)
        scene.follower.hvc(0, function, upper | number)
