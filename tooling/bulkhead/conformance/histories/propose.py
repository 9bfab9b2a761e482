"""Draws concurrent programs: CPUs that reach for the same few things. Trust label: TOOL.

One or two things of a stage are picked (a frame, a block, a page, a table, a vCPU, a VM), and each CPU makes a few
calls each of which is about one of them. All choices come from one `random.Random`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.spec import CALLS, State

from .program import Program, Step
from .stage import ACTIVE, RAM, Stage, StagedVm, complete

DRAWS = 4
"""Calls that are drawn until one would succeed."""
DELAYS = (0, 100, 1000, 5000)
"""Longest delays, of which a program has one, in turns of about 1.5 ns each: calls take 1 to 200 µs."""
RALLIES, TALKS, TURNS = 0.15, 0.4, 5
"""Share of programs in which all CPUs run one vCPU; of others with a VM that makes calls, in which one CPU runs it and
others call about its pages; and how often they do at most.
"""
RALLY, RALLY_DELAYS = 14, (0, 30, 100)
"""How often a vCPU is run in a rally, and longest delays there: what is at stake is a few instructions long."""
Call = tuple[str, dict[str, int]]
Thing = tuple[str, int]
"""A kind and an address or slot."""


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
            found += [("page", page) for page in vm.pages.values()] * (3 if vm.context else 1)
            found += [("vm_block", block) for block in vm.blocks.values()]
            found += [("table", table) for table in vm.tables.values()]
            found += [("vcpu", vcpu) for vcpu in vm.vcpus.values()] * 2
        return found

    def call(self, thing: Thing) -> Call:
        """A call, or an access, about a thing; mostly one that would succeed if it came first."""
        for _ in range(DRAWS):
            name, arguments = self._any(thing)
            if self._likely(name, arguments):
                break
        return name, arguments

    def _likely(self, name: str, arguments: dict[str, int]) -> bool:
        if name == "vcpu_run":
            return any(vm.state == ACTIVE and vm.vcpus[0] == arguments["vcpu"] for vm in self.stage.vms)
        return name not in CALLS or CALLS[name](self.state, **arguments).success is True

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
        if 0 in vm.vcpus:
            for _ in range(2):
                yield self._plain("vcpu_run", vcpu=vm.vcpus[0])
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


@dataclass(frozen=True)
class Delays:
    """Draws a delay of at most `scale`."""

    random: Random
    scale: int

    def __call__(self) -> int:
        return self.random.randint(0, self.scale)


def conflict(conflicts: Conflicts, cpus: int) -> list[Step]:
    """Steps for so many CPUs, in one round or a few."""
    random = conflicts.random
    delays = Delays(random, random.choice(DELAYS))
    running = [vm for vm in conflicts.stage.vms if vm.state == ACTIVE]
    talking = [vm for vm in running if vm.context and len(vm.pages) > 1]
    if running and random.random() < RALLIES:
        return rally(random.choice(running).vcpus[0], cpus, Delays(random, random.choice(RALLY_DELAYS)))
    if talking and random.random() < TALKS:
        return talk(random.choice(talking), conflicts, cpus, delays)
    things = random.choices(conflicts.things(), k=random.choice((1, 1, 2)))
    most = 2 if cpus == 2 else 1
    return [
        Step(cpu, round, *conflicts.call(random.choice(things)), delay=delays())
        for round in range(1, 1 + random.choice((1, 1, 2, 3)))
        for cpu in range(cpus)
        for _ in range(random.randint(1, most))
    ]


def rally(vcpu: int, cpus: int, delays: Delays) -> list[Step]:
    """All CPUs want to run the same vCPU, again and again."""
    return [
        Step(cpu, round, *(("vcpu_run", {"vcpu": vcpu}) if round % 2 else ("vcpu_put", {})), delay=delays())
        for round in range(1, 1 + 2 * (RALLY if cpus == 2 else TURNS))
        for cpu in range(cpus)
    ]


def talk(vm: StagedVm, conflicts: Conflicts, cpus: int, delays: Delays) -> list[Step]:
    """One CPU runs a VM, which speaks of its pages, while the others make calls about them."""
    pages = [("page", page) for ipa, page in vm.pages.items() if ipa != RAM]
    runner = delays.random.randrange(cpus)
    steps = []
    for round in range(1, 1 + delays.random.randint(1, TURNS)):
        for cpu in range(cpus):
            turn = ("vcpu_run", {"vcpu": vm.vcpus[0]})
            call = turn if cpu == runner else conflicts.call(delays.random.choice(pages))
            steps.append(Step(cpu, round, *call, delay=delays()))
    return steps


def tidy(program: Program) -> list[Step]:
    """No CPU keeps a vCPU."""
    last = max((step.round for step in program.steps), default=0)
    return [Step(cpu, last + 1, "vcpu_put", {}) for cpu in range(program.cpus)]
