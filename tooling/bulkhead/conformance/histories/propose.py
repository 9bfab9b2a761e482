"""Draws concurrent programs: CPUs that reach for the same few things. Trust label: TOOL.

A program sets a stage by calls of CPU 0 (VMs in some state of their lives, with tables, pages, blocks and vCPUs), then
picks one or two things on it (a frame, a block, a page, a table, a vCPU, a VM) and lets each CPU make a few calls each
of which is about one of them. All choices come from one `random.Random`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from bulkhead.conformance.backend import BLOCK, PAGE
from bulkhead.spec import ARGUMENTS, CALLS, State

from .program import Program, Step

RAM = 0x4000_0000
CODE = 0x17FFFFFF_D503207F
"""WFI, and a branch back to it: what every vCPU executes, at the first address of its VM's RAM."""
DRAWS = 4
"""Calls that are drawn until one would succeed."""
BLOCKS_OF_RAM = 4
FREE_FRAMES = 4
"""Frames of the host that a program fights for, and whole blocks."""
FREE_BLOCKS = 2
DELAYS = (0, 100, 1000, 5000)
"""Longest delays, of which a program has one, in turns of about 1.5 ns each: calls take 1 to 200 µs."""
RALLIES, TURNS = 0.15, 6
"""Share of programs in which all CPUs run one vCPU, and how often they do."""
BUILDING, ACTIVE, DYING = "building", "active", "dying"
Call = tuple[str, dict[str, int]]
Thing = tuple[str, int]
"""A kind and an address or slot."""


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
        if state == DYING:
            self.do("vm_kill", vm=slot)
        return vm

    def _memory(self, vm: StagedVm) -> None:
        for level in (2, 3):
            vm.tables[level] = self.frame()
            self.do("table_donate", vm=vm.slot, ipa=RAM, level=level, table=vm.tables[level])
        code = vm.pages[RAM] = self.frame()
        self.do("store", address=code, value=CODE)
        self.do("map", vm=vm.slot, ipa=RAM, frame=code, mode=1)
        for number in range(self.random.choice((0, 1, 2))):
            ipa = RAM + PAGE * (1 + number)
            vm.pages[ipa] = self.frame()
            self.do("map", vm=vm.slot, ipa=ipa, frame=vm.pages[ipa], mode=0)
        if self.random.random() < 0.3:
            block = next(self._blocks)
            vm.blocks[RAM + BLOCK] = block
            self.do("map_block", vm=vm.slot, ipa=RAM + BLOCK, block=block)

    def _processors(self, vm: StagedVm, count: int) -> None:
        missing = vm.state == BUILDING and self.random.random() < 0.5
        for index in range(count - missing):
            vm.vcpus[index] = self.frame()
            self.do("vcpu_create", vm=vm.slot, index=index, frame=vm.vcpus[index])
        if 0 in vm.vcpus and not (vm.state == BUILDING and self.random.random() < 0.3):
            self.do("vcpu_set_entry", vcpu=vm.vcpus[0], entry=RAM, context=0)


class Conflicts:
    """Calls about things on a stage that is set, and leaves the specification in `state`."""

    def __init__(self, stage: Stage, state: State) -> None:
        self.stage, self.state, self.random = stage, state, stage.random

    def things(self) -> list[Thing]:
        """All things on the stage."""
        found: list[Thing] = [("frame", frame) for frame in self.stage.frames[:2]]
        found += [("block", block) for block in self.stage.blocks]
        for vm in self.stage.vms:
            found += [("vm", vm.slot), ("root", vm.root)]
            found += [("page", page) for page in vm.pages.values()]
            found += [("vm_block", block) for block in vm.blocks.values()]
            found += [("table", table) for table in vm.tables.values()]
            found += [("vcpu", vcpu) for vcpu in vm.vcpus.values()] * 2
        return found

    def call(self, thing: Thing) -> Call:
        """A call, or an access, about a thing; mostly one that would succeed if it came first."""
        for _ in range(DRAWS):
            name, arguments = self._any(thing)
            if name not in CALLS or CALLS[name](self.state, **arguments).success is True:
                break
        return name, arguments

    def _any(self, thing: Thing) -> Call:
        kind, where = thing
        name, arguments = self.random.choice(list(getattr(self, f"_about_{kind}")(where)))()
        return name, complete(name, arguments)

    def _choose(self, *options: int) -> int:
        return self.random.choice(options)

    def _slot(self) -> int:
        return self.random.choice(self.stage.vms).slot

    def _ipa(self) -> int:
        return self._choose(RAM + 3 * PAGE, RAM + 3 * PAGE, RAM + PAGE, RAM + BLOCK)

    def _block_ipa(self) -> int:
        return RAM + BLOCK * self._choose(1, 2, 2, 3)

    def _owner(self, where: int) -> StagedVm:
        for vm in self.stage.vms:
            if where in (
                vm.root,
                *vm.tables.values(),
                *vm.pages.values(),
                *vm.blocks.values(),
                *vm.vcpus.values(),
            ):
                return vm
        raise ValueError("nobody's")

    def _map(self, **fixed: int) -> Callable[[], Call]:
        arguments = {
            "vm": self._slot(), "ipa": self._ipa(), "frame": self.random.choice(self.stage.frames),
            "mode": self._choose(0, 0, 1), **fixed,
        }  # fmt: skip
        return lambda: ("map", arguments)

    def _donate(self, **fixed: int) -> Callable[[], Call]:
        arguments = {
            "vm": self._slot(), "ipa": RAM + BLOCK * self._choose(2, 3), "level": 3,
            "table": self.random.choice(self.stage.frames), **fixed,
        }  # fmt: skip
        return lambda: ("table_donate", arguments)

    def _access(self, where: int) -> Callable[[], Call]:
        address = where + 8 * self.random.randrange(512)
        if self.random.random() < 0.5:
            return lambda: ("load", {"address": address})
        return lambda: ("store", {"address": address, "value": self.random.getrandbits(48)})

    def _plain(self, name: str, **arguments: int) -> Callable[[], Call]:
        return lambda: (name, arguments)

    def _about_frame(self, frame: int) -> Iterator[Callable[[], Call]]:
        other = self.stage.frames[-1]
        yield self._map(frame=frame)
        yield self._map(frame=frame)
        yield self._donate(table=frame)
        yield self._plain("vcpu_create", vm=self._slot(), index=self._choose(0, 1), frame=frame)
        yield self._plain(
            "vm_create", vm=self._choose(2, 3), root=frame, vcpus=1, ram0_base=RAM, ram0_size=BLOCK
        )
        yield self._plain("host_split", block=self.random.choice(self.stage.blocks), table=frame)
        for vm in self.stage.vms:
            for block in vm.blocks.values():
                tables = self.random.choice(((frame, other), (other, frame)))
                yield self._plain("vm_split", block=block, table=tables[0], host_table=tables[1])
        yield self._access(frame)

    def _about_block(self, block: int) -> Iterator[Callable[[], Call]]:
        yield self._plain("host_split", block=block, table=self.random.choice(self.stage.frames))
        for _ in range(2):
            yield self._plain("map_block", vm=self._slot(), ipa=self._block_ipa(), block=block)
        if self.stage.has_dma:
            yield self._plain("dma_allow", block=block)
            yield self._plain("dma_revoke", block=block)
        yield self._map(frame=block + PAGE * self._choose(0, 5))
        yield self._plain("reclaim_block", block=block)
        yield self._access(block)

    def _about_vm(self, slot: int) -> Iterator[Callable[[], Call]]:
        for name in ("vm_kill", "activate", "vm_destroy"):
            yield self._plain(name, vm=slot)
        frame = self.random.choice(self.stage.frames)
        yield self._plain("vm_create", vm=slot, root=frame, vcpus=1, ram0_base=RAM, ram0_size=BLOCK)
        yield self._plain("vcpu_create", vm=slot, index=self._choose(0, 1), frame=frame)
        yield self._map(vm=slot)
        yield self._donate(vm=slot)
        yield self._plain(
            "map_block", vm=slot, ipa=self._block_ipa(), block=self.random.choice(self.stage.blocks)
        )

    def _about_root(self, root: int) -> Iterator[Callable[[], Call]]:
        slot = self._owner(root).slot
        yield self._plain("vm_destroy", vm=slot)
        yield self._donate(vm=slot, ipa=RAM + (1 << 30) * self._choose(0, 1), level=2)
        for table in self._owner(root).tables.values():
            yield self._plain("table_reclaim", table=table)
        yield self._plain("vm_kill", vm=slot)
        yield self._map(frame=root)

    def _about_page(self, page: int) -> Iterator[Callable[[], Call]]:
        vm = self._owner(page)
        ipa = next(ipa for ipa, frame in vm.pages.items() if frame == page)
        yield self._plain("reclaim", frame=page)
        yield self._plain("reclaim", frame=page)
        yield self._plain("share_accept", vm=vm.slot, ipa=ipa)
        yield self._plain("share_release", vm=vm.slot, ipa=ipa)
        yield self._plain("vm_kill", vm=vm.slot)
        yield self._map(vm=vm.slot, ipa=ipa)
        yield self._map(frame=page)
        yield self._plain("table_reclaim", table=vm.tables[3])
        yield self._access(page)

    def _about_vm_block(self, block: int) -> Iterator[Callable[[], Call]]:
        vm = self._owner(block)
        ipa = next(ipa for ipa, found in vm.blocks.items() if found == block)
        first, second, *_ = self.stage.frames
        yield self._plain("reclaim_block", block=block)
        yield self._plain("reclaim_block", block=block)
        yield self._plain("vm_split", block=block, table=first, host_table=second)
        yield self._plain("vm_kill", vm=vm.slot)
        yield self._map(vm=vm.slot, ipa=ipa)
        yield self._plain("map_block", vm=vm.slot, ipa=ipa, block=self.random.choice(self.stage.blocks))
        yield self._plain("dma_allow" if self.stage.has_dma else "reclaim_block", block=block)
        yield self._plain("reclaim", frame=block + PAGE)
        yield self._access(block)

    def _about_table(self, table: int) -> Iterator[Callable[[], Call]]:
        vm = self._owner(table)
        level = next(level for level, found in vm.tables.items() if found == table)
        yield self._plain("table_reclaim", table=table)
        yield self._plain("table_reclaim", table=table)
        yield self._map(vm=vm.slot)
        yield self._donate(vm=vm.slot, ipa=RAM, level=level)
        for page in vm.pages.values():
            yield self._plain("reclaim", frame=page)
        yield self._plain(
            "map_block", vm=vm.slot, ipa=self._block_ipa(), block=self.random.choice(self.stage.blocks)
        )

    def _about_vcpu(self, vcpu: int) -> Iterator[Callable[[], Call]]:
        vm = self._owner(vcpu)
        for _ in range(3):
            yield self._plain("vcpu_run", vcpu=vcpu)
        yield self._plain("vcpu_put")
        yield self._plain("vcpu_put")
        yield self._plain("reclaim", frame=vcpu)
        yield self._plain("reclaim", frame=vm.pages[RAM])
        yield self._plain("vcpu_set_entry", vcpu=vcpu, entry=RAM, context=0)
        yield self._plain("vm_kill", vm=vm.slot)
        yield self._plain("activate", vm=vm.slot)


def conflict(conflicts: Conflicts, cpus: int) -> list[Step]:
    """Steps for so many CPUs, in one round or a few."""
    random = conflicts.random
    things = random.choices(conflicts.things(), k=random.choice((1, 1, 2)))
    scale = random.choice(DELAYS)
    if random.random() < RALLIES and (
        vcpus := [where for kind, where in conflicts.things() if kind == "vcpu"]
    ):
        return rally(random.choice(vcpus), cpus, lambda: random.randint(0, min(scale, DELAYS[1])))
    most = 2 if cpus == 2 else 1
    return [
        Step(cpu, round, *conflicts.call(random.choice(things)), delay=random.randint(0, scale))
        for round in range(1, 1 + random.choice((1, 1, 2, 3)))
        for cpu in range(cpus)
        for _ in range(random.randint(1, most))
    ]


def rally(vcpu: int, cpus: int, delay: Callable[[], int]) -> list[Step]:
    """All CPUs want to run the same vCPU, again and again."""
    return [
        Step(cpu, round, *(("vcpu_run", {"vcpu": vcpu}) if round % 2 else ("vcpu_put", {})), delay=delay())
        for round in range(1, 1 + 2 * TURNS)
        for cpu in range(cpus)
    ]


def tidy(program: Program) -> list[Step]:
    """No CPU keeps a vCPU."""
    last = max((step.round for step in program.steps), default=0)
    return [Step(cpu, last + 1, "vcpu_put", {}) for cpu in range(program.cpus)]
