"""vCPUs, calls and exits on the fake machine against the specification: every way through each definition."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.sequences.guide_vcpus import VcpuGuide
from bulkhead.conformance.sequences.steps import carry_out
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.spec.calls import tested
from bulkhead.spec.calls.traps import IGNORED
from bulkhead.spec.invariants import OF_VCPUS
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import CpuWord, Kind

pytestmark = pytest.mark.host

RAM, DEVICE = 0x4000_0000, 0x0900_0000
SMALL = ((0x4000_0000, 16 << 20),)
LIST = 1 << 62 | 1 << 60
ISV, STORE = 1 << 24, 1 << 6
EC = {"WFx": 0x01, "FP": 0x07, "HVC": 0x16, "SMC": 0x17, "system": 0x18, "fetch": 0x20, "data": 0x24}


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


SEEDS = range(4)


def walked(seed: int, steps: int) -> Counter[Pair]:
    """What some random steps have shown."""
    scene = Scene(seed, features=(3, 3, 1, 0)[seed])
    proposer = VcpuGuide(scene.follower, scene.choices)
    for number in range(steps):
        carry_out(scene.follower, proposer.next())
        if number % 20 == 0:
            check_loaded(scene.follower)
    scene.backend.close()
    return scene.follower.pairs


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


def test_replies(scene: Scene) -> None:
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


def test_a_store_tells_the_bytes_that_it_stores(scene: Scene) -> None:
    """Of each size, from a register that is full."""
    follower, register = scene.follower, 5
    for size in range(4):
        follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
        follower.set_word(0, register, 0xFEDC_BA98_7654_3210)
        esr = EC["data"] << 26 | ISV | size << 22 | register << 16 | STORE | 7
        taken = follower.exception(0, esr, DEVICE, DEVICE >> 8)
        assert taken.decision.data[2] == 0xFEDC_BA98_7654_3210 & (1 << (8 << size)) - 1


def test_deaths(scene: Scene) -> None:
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


def test_sharing(scene: Scene) -> None:
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


def test_questions(scene: Scene) -> None:
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


def test_cpu_on_while_another_is(scene: Scene) -> None:
    """CPU_ON of a vCPU on whose context another CPU is working just now."""
    follower, vcpu = scene.follower, scene.vm.contexts[1]
    follower.host_call(0, "vcpu_run", scene.vm.contexts[0], 0, 0, 0, 0, 0)
    with follower.ghost.starting(scene.machine.index(vcpu)):
        follower.hvc(0, "PSCI_CPU_ON", 1, RAM, 0)
        assert follower.pairs[Pair("VM: PSCI_CPU_ON", "3. ON_PENDING")] == 1
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
