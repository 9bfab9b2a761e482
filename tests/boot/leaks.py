"""Looks for anything that a VM has put into a register and that somebody else finds. Trust label: TOOL.

Two VMs, whose registers differ in every bit, leave in every way that the emulator can cause. What the host reads after
each, what a later VM finds, and what QEMU says of the CPU's own registers must be the same for both: what depends on
which VM ran is a finding. So is a register of a VM that comes back changed, and an access that the table denies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from boot import everything
from boot.everything import ABSENT, AGAIN, LIST, OTHERS, WAYS, Cpu, Filling, Observer
from boot.rig import EXITS, Rig, Vm, host_pages
from boot.sweep import REFUSED, TABLE
from bulkhead.machine.gdbstub import GdbStub
from bulkhead.registers.table import is_resident

TRIES, PATIENCE, AT_ONCE = 5, 5.0, 0.01
"""Runs that may end by an interrupt of the host before the exit comes, and when that comes, in seconds: late, because a
VM that is interrupted while it fills its registers is another test."""
DECLARED = ("x9",)
"""What an exit tells by its nature, besides what is equal for both fillers: the deadline of the virtual timer."""
TRIVIAL_BITS = 40
"""A value below says nothing about where it comes from when it is found in RAM."""


@dataclass(frozen=True)
class Fill:
    """What one filler did, and what was seen after it."""

    filling: Filling
    vm: Vm
    tried: list[tuple[int, int]]
    held: dict[str, int]
    """What its registers held when all were written."""
    again: dict[str, int]
    """The same registers after it had left six times and come back."""
    host: dict[str, dict[str, int]]
    """By exit: every register as the host finds it."""
    cpu: dict[str, int]
    """The CPU's registers by QEMU's gdb stub while the host runs."""


@dataclass
class Observation:
    """Everything that was seen on one machine."""

    cpu: Cpu
    fills: list[Fill] = field(default_factory=list)
    looks: dict[str, dict[str, int]] = field(default_factory=dict)
    """What a VM found in its registers, by when it was started."""


def describe(rig: Rig, model: str) -> Cpu:
    """The registers of the machine's CPU, by the gdb stub."""
    with rig.machine.paused():
        return Cpu.of(model, GdbStub(rig.machine.gdb, rig.machine.wait_until))


def observe(rig: Rig, model: str) -> Observation:
    """A look before, two fillers one after the other with a look after each."""
    seen = Observation(describe(rig, model))
    seen.looks["before any"] = everything.look(rig, 1, seen.cpu)
    observer = Observer.put(rig, seen.cpu, seen.looks["before any"]["CNTFRQ_EL0"])
    for number, other in enumerate((False, True)):
        seen.fills.append(run_filler(rig, 2 + number, observer, Filling(seen.cpu, other)))
        seen.looks[f"after filler {number}"] = everything.look(rig, 4 + number, seen.cpu)
    return seen


def observe_vms(rig: Rig, model: str) -> set[str]:
    """The same with fillers that leave once, to a host that looks at nothing: registers that a later VM finds."""
    cpu = describe(rig, model)
    looks = [everything.look(rig, 1, cpu)]
    for number, other in enumerate((False, True)):
        filler = everything.fill(rig, 2 + number, Filling(cpu, other))
        assert filler.run_on()[0] == EXITS["HOST_CALL"]
        looks.append(everything.look(rig, 4 + number, cpu))
    return {name for look in looks[1:] for name in differing(looks[0], look)}


def run_filler(rig: Rig, slot: int, observer: Observer, filling: Filling) -> Fill:
    """Runs it through all its exits."""
    vm = everything.fill(rig, slot, filling)
    host = {}
    for way in WAYS:
        host[way] = leave(observer, vm, way)
        if way == "MEM_FAULT":
            rig.ok("map", slot, ABSENT, rig.take(), 0)
    count = len(filling.steps())
    names = [*filling.reads, *OTHERS]
    steps = everything.read_list(vm, LIST, count)
    again = everything.read_list(vm, AGAIN, len(names))
    return Fill(
        filling,
        vm,
        steps[: 2 * len(filling.tries)],
        dict(zip(names, [value for value, _ in steps[count - len(names) :]], strict=True)),
        dict(zip(names, [value for value, _ in again], strict=True)),
        host,
        by_stub(rig, filling.cpu),
    )


def leave(observer: Observer, vm: Vm, way: str) -> dict[str, int]:
    """What the host finds after the next exit, which is `way`."""
    for _ in range(TRIES):
        seen = observer.run(vm.contexts[0], AT_ONCE if way == "IRQ" else PATIENCE)
        assert seen["x0"] == 0, f"vcpu_run answers {seen['x0']:#x}"
        if seen["x1"] == EXITS[way]:
            return seen
        assert seen["x1"] == EXITS["IRQ"], f"exit {seen['x1']} in place of {way}"
    raise AssertionError(f"{TRIES} interrupts, and no {way}")


def by_stub(rig: Rig, cpu: Cpu) -> dict[str, int]:
    """Registers of EL0 and EL1 that do not stay a vCPU's, and the state of SVE, while the host runs."""
    with rig.machine.paused():
        stub = GdbStub(rig.machine.gdb, rig.machine.wait_until)
        names = [name for name in cpu.registers if stub.has(name) and is_the_hosts(cpu, name)]
        vectors = [f"z{n}" for n in range(32) if stub.has("z0")]
        predicates = [*(f"p{n}" for n in range(16)), "ffr"] if vectors else []
        return {name: stub.register(name) for name in [*names, *predicates]} | {
            f"{name} above bit 127": stub.register(name) >> 128 for name in vectors
        }


def is_the_hosts(cpu: Cpu, name: str) -> bool:
    """Whether the CPU's own register belongs to the host while it runs: not resident, not of EL2."""
    line = TABLE.at(cpu.registers[name])
    assert line is not None
    is_left = is_resident(line) or line.name.startswith(("DBGB", "DBGW"))
    return cpu.registers[name][1] < 4 and not is_left


def findings(seen: Observation) -> set[str]:
    """Everything that is not as it should be, as "who: register"."""
    one, two = seen.fills
    found = {f"host: {name}" for name in differing_at_host(one, two)}
    found |= {f"cpu: {name}" for name in differing(one.cpu, two.cpu)}
    reference = seen.looks["before any"]
    for look in seen.looks.values():
        found |= {f"vm: {name}" for name in differing(reference, look)}
    for fill in seen.fills:
        found |= {f"lost: {name}" for name in differing(fill.held, fill.again)}
        found |= {f"table: {name}" for name in unlike_the_table(fill)}
    return found


def differing(one: Mapping[str, int], two: Mapping[str, int]) -> set[str]:
    """Registers whose values differ, but for those that change by themselves."""
    ours = {*everything.TIME, *everything.HOSTS_TIMER}
    assert one.keys() == two.keys()
    return {name for name, value in one.items() if two[name] != value and name not in ours}


def differing_at_host(one: Fill, two: Fill) -> set[str]:
    """Registers in which the host sees, after some exit, which of the VMs it was."""
    return {name for way in WAYS for name in differing(one.host[way], two.host[way])} - {*DECLARED}


def unlike_the_table(fill: Fill) -> Iterator[str]:
    """Registers that the table does not let a VM write, and whose write or read came to something else."""
    for number, name in enumerate(fill.filling.tries):
        for direction, (_, outcome) in zip("wr", fill.tried[2 * number : 2 * number + 2], strict=True):
            is_undefined = fill.filling.cpu.told(name, "vm", direction) == "undefined"
            if outcome not in (REFUSED if is_undefined else (0,)):
                yield name


def kept(seen: Observation) -> dict[str, int]:
    """For each register that a filler could write: the bits in which the two fillers' values differ."""
    one, two = seen.fills
    bits = {name: value ^ two.held[name] for name, value in one.held.items()}
    for number, name in enumerate(one.filling.tries):
        bits[name] = one.tried[2 * number + 1][0] ^ two.tried[2 * number + 1][0]
    return bits


def secrets(fill: Fill) -> list[bytes]:
    """Values that nobody but the filler and the engine may have in memory."""
    written = {*fill.filling.writes, *everything.OTHERS}
    values = {value for name, value in fill.held.items() if name in written}
    emulated = [fill.filling.cpu.told(name, "vm", "w") == "emulated" for name in fill.filling.tries]
    values |= {value for (value, _), is_kept in zip(fill.tried[1::2], emulated, strict=True) if is_kept}
    values |= {*fill.filling.general()[6:]} - {fill.held["CNTV_CVAL_EL0"]}
    return [struct.pack("<Q", value) for value in values if value >> TRIVIAL_BITS]


def in_memory(rig: Rig, seen: Observation) -> list[tuple[str, str]]:
    """Address and value of each secret in RAM that is the host's."""
    own = {frame for vm in rig.vms for frame in (*vm.contexts, *vm.pages.values())}
    values = [value for fill in seen.fills for value in secrets(fill)]
    return [
        (hex(address), value.hex())
        for address, data in host_pages(rig)
        if address not in own
        for value in values
        if value in data
    ]
