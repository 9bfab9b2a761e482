"""What a program is about: VMs in some state of their lives, with tables, pages, blocks and vCPUs, and memory of the
host. Trust label: TOOL. All choices come from one `random.Random`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.spec import ARGUMENTS

from . import guest
from .program import Step

RAM = guest.ENTRY
TALKATIVE = 0.8
"""Share of active VMs that make calls."""
BLOCKS_OF_RAM = 4
FREE_FRAMES = 4
"""Frames of the host that a program fights for, and whole blocks."""
FREE_BLOCKS = 2
BUILDING, ACTIVE, DYING = "building", "active", "dying"


def complete(name: str, arguments: dict[str, int]) -> dict[str, int]:
    """All arguments of a call: those that are missing are zero."""
    return {key: arguments.get(key, 0) for key in ARGUMENTS.get(name, arguments)}


@dataclass
class StagedVm:
    """A VM as setting the stage leaves it. Pages and blocks by IPA."""

    slot: int
    state: str
    root: int
    tables: dict[int, int] = field(default_factory=dict)
    pages: dict[int, int] = field(default_factory=dict)
    blocks: dict[int, int] = field(default_factory=dict)
    vcpus: dict[int, int] = field(default_factory=dict)
    context: int = 0
    """Stands for what its vCPU 0 says (`guest`)."""


@dataclass
class Resources:
    """What a program may use: frames and whole blocks of the host."""

    frames: list[int]
    blocks: list[int]


class Stage:
    """VMs and memory, and the calls that bring them about."""

    def __init__(self, random: Random, resources: Resources, has_dma: bool) -> None:
        self.random, self.has_dma = random, has_dma
        self._frames = iter(resources.frames)
        self._blocks = iter(resources.blocks)
        self.steps: list[Step] = []
        self.vms = [self._vm(slot) for slot in range(random.choice((1, 2, 2)))]
        self.frames = [next(self._frames) for _ in range(FREE_FRAMES)]
        self.blocks = [next(self._blocks) for _ in range(FREE_BLOCKS)]

    def do(self, name: str, **arguments: int) -> None:
        """A call or access of CPU 0."""
        self.steps.append(Step(0, 0, name, complete(name, arguments)))

    def frame(self) -> int:
        """A frame that nobody uses yet."""
        return next(self._frames)

    def _vm(self, slot: int) -> StagedVm:
        state = self.random.choice((BUILDING, ACTIVE, ACTIVE, DYING))
        vm = StagedVm(slot, state, self.frame())
        vcpus = self.random.choice((1, 1, 2))
        self.do(
            "vm_create", vm=slot, root=vm.root, vcpus=vcpus, ram0_base=RAM, ram0_size=BLOCKS_OF_RAM * BLOCK
        )
        if state == DYING and self.random.random() < 0.3:
            self.do("vm_kill", vm=slot)  # with nothing but its root
            return vm
        self._memory(vm)
        self._processors(vm, vcpus)
        if state == ACTIVE:
            self.do("activate", vm=slot)
            for _ in range(self.random.choice((0, 2, 2, 4)) if vm.context else 0):
                self.do("vcpu_run", vcpu=vm.vcpus[0])
            self.do("vcpu_put")
        if state == DYING:
            self.do("vm_kill", vm=slot)
        return vm

    def _memory(self, vm: StagedVm) -> None:
        for level in (2, 3):
            vm.tables[level] = self.frame()
            self.do("table_donate", vm=vm.slot, ipa=RAM, level=level, table=vm.tables[level])
        pages = self.random.choice((1, 2) if vm.state == ACTIVE else (0, 1, 2))
        if vm.state == ACTIVE and self.random.random() < TALKATIVE:
            vm.context = guest.context([self._vm_call(pages) for _ in range(self.random.randint(1, 4))])
        page = vm.pages[RAM] = self.frame()
        for number, word in enumerate(guest.code(vm.context)):
            self.do("store", address=page + 8 * number, value=word)
        self.do("map", vm=vm.slot, ipa=RAM, frame=page, mode=1)
        for number in range(pages):
            ipa = RAM + PAGE * (1 + number)
            vm.pages[ipa] = self.frame()
            self.do("map", vm=vm.slot, ipa=ipa, frame=vm.pages[ipa], mode=0)
        if self.random.random() < 0.3:
            block = next(self._blocks)
            vm.blocks[RAM + BLOCK] = block
            self.do("map_block", vm=vm.slot, ipa=RAM + BLOCK, block=block)

    def _vm_call(self, pages: int) -> tuple[str, int]:
        """What a VM says, and about which place."""
        name = self.random.choice(("share", "share", "share", "unshare", "unshare", "relinquish"))
        if self.random.random() < 0.06:
            return name, self.random.choice((guest.IN_BLOCK, guest.NOWHERE))
        return name, self.random.randint(1, pages)

    def _processors(self, vm: StagedVm, count: int) -> None:
        missing = vm.state == BUILDING and self.random.random() < 0.5
        for index in range(count - missing):
            vm.vcpus[index] = self.frame()
            self.do("vcpu_create", vm=vm.slot, index=index, frame=vm.vcpus[index])
        if 0 in vm.vcpus and not (vm.state == BUILDING and self.random.random() < 0.3):
            self.do("vcpu_set_entry", vcpu=vm.vcpus[0], entry=RAM, context=vm.context)
