"""Launch measurements of random VMs: the engine's equal those computed here, and every change of the description shows.

A description is all that a hypervisor decides about a VM before it runs. Each is built three times: as drawn, with one
change, and with all else changed that a hypervisor decides (slot, frames, tables, zeroed pages).
`bulkhead.measurement` computes what is expected from the description alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.testing.builder import Ranges, dismantle
from bulkhead.measurement import Measurement

DESCRIPTIONS = 100
GIB = 1 << 30
SPACE = 1 << 39
"""Bytes of a VM's address space."""
Page = tuple[int, bytes | None]
"""IPA, and the content that is measured; None: a zeroed page."""


@dataclass(frozen=True)
class Description:
    """RAM ranges, number of vCPUs, pages and vCPUs in the order of their calls, entry and its argument."""

    ram: Ranges
    vcpus: int
    steps: tuple[Page | int, ...]
    entry: int
    context: int
    name: str = field(default="", compare=False)

    def expected(self) -> bytes:
        """The measurement, by the document."""
        measurement = Measurement()
        measurement.create(self.vcpus, 0, self.ram)
        for step in self.steps:
            if isinstance(step, int):
                measurement.vcpu(step)
            elif step[1] is not None:
                measurement.page(step[0], step[1])
        measurement.entry(self.entry, self.context)
        return measurement.digest

    def build(self, machine: Machine, slot: int) -> bytes:
        """The measurement that the engine answers at `activate`."""
        vm = Vm(machine, slot, self.ram, self.vcpus)
        for step in self.steps:
            if isinstance(step, int):
                vm.vcpu(step)
            else:
                vm.page(*step)
        vm.entry(self.entry, self.context)
        words = machine.ok("activate", vm=slot).results.values()
        return b"".join(word.to_bytes(8, "little") for word in words)

    @property
    def measured(self) -> list[int]:
        """Indices of the steps that map a page with content."""
        return [
            index
            for index, step in enumerate(self.steps)
            if not isinstance(step, int) and step[1] is not None
        ]


def draw(choices: random.Random) -> Description:
    """A description within the limits of the machine under test: few tables, a handful of pages."""
    vcpus = choices.randint(1, 8)
    ram, base = [], choices.randrange(0, 4 * GIB, PAGE)
    for _ in range(choices.randint(1, 4)):
        size = choices.choice([PAGE, 5 * PAGE, 2 << 20, choices.randrange(PAGE, 64 << 20, PAGE)])
        ram.append((base, size))
        base += size + choices.choice([0, PAGE, choices.randrange(0, GIB, PAGE)])
    places = {low + choices.randrange(0, size, PAGE) for low, size in ram for _ in range(2)}
    steps: list[Page | int] = [(ipa, content(choices)) for ipa in sorted(places)[1:]]
    steps += [(min(places), choices.randbytes(PAGE)), *range(vcpus)]
    choices.shuffle(steps)
    entry = choices.choice([ram[0][0], choices.randrange(0, SPACE, 4)])
    return Description(tuple(ram), vcpus, tuple(steps), entry, choices.getrandbits(64))


def content(choices: random.Random) -> bytes | None:
    """Of a page: random, almost empty, empty but measured, or zeroed without being measured."""
    almost = bytearray(PAGE)
    almost[choices.randrange(PAGE)] = 1 << choices.randrange(8)
    return choices.choice([choices.randbytes(PAGE), bytes(almost), bytes(PAGE), None])


def changed(one: Description, choices: random.Random) -> Description:
    """The same with one change: a bit, an address, the order, or a parameter."""
    kinds = [flip, move, swap, more_ram, other_entry, other_context, measured_or_not, one_vcpu_more]
    for change in choices.sample(kinds, len(kinds)):
        other = change(one, choices)
        if other is not None:
            return replace(other, name=change.__name__)
    raise AssertionError("a change of the entry is always possible")


def otherwise(one: Description, choices: random.Random) -> Description:
    """The same to a measurement: what is measured is in its order, other zeroed pages lie anywhere between."""
    steps = [step for step in one.steps if isinstance(step, int) or step[1] is not None]
    used = {step[0] for step in one.steps if not isinstance(step, int)}
    places = [ipa for low, size in one.ram for ipa in (low, low + size - PAGE) if ipa not in used]
    for ipa in choices.sample(sorted(set(places)), choices.randint(0, len(set(places)))):
        steps.insert(choices.randint(0, len(steps)), (ipa, None))
    return replace(one, steps=tuple(steps))


def with_step(one: Description, index: int, step: Page | int) -> Description:
    """Another step in the place of one."""
    return replace(one, steps=(*one.steps[:index], step, *one.steps[index + 1 :]))


def flip(one: Description, choices: random.Random) -> Description | None:
    """One bit of one measured page."""
    index = choices.choice(one.measured)
    ipa, data = page_at(one, index)
    spoilt = bytearray(data)
    spoilt[choices.randrange(PAGE)] ^= 1 << choices.randrange(8)
    return with_step(one, index, (ipa, bytes(spoilt)))


def page_at(one: Description, index: int) -> tuple[int, bytes]:
    """The measured page that a step maps."""
    step = one.steps[index]
    assert not isinstance(step, int)
    assert step[1] is not None
    return step[0], step[1]


def move(one: Description, choices: random.Random) -> Description | None:
    """A measured page at another address of the VM's RAM."""
    index = choices.choice(one.measured)
    used = {step[0] for step in one.steps if not isinstance(step, int)}
    free = [ipa for low, size in one.ram for ipa in (low, low + size - PAGE) if ipa not in used]
    return with_step(one, index, (free[0], page_at(one, index)[1])) if free else None


def swap(one: Description, choices: random.Random) -> Description | None:
    """Two neighbours that are measured, in the other order."""
    order = [index for index, step in enumerate(one.steps) if isinstance(step, int) or step[1] is not None]
    if len(order) < 2:
        return None
    at = choices.randrange(len(order) - 1)
    first, second = order[at], order[at + 1]
    return with_step(with_step(one, first, one.steps[second]), second, one.steps[first])


def more_ram(one: Description, choices: random.Random) -> Description:
    """A last range that is a page longer."""
    base, size = one.ram[-1]
    return replace(one, ram=(*one.ram[:-1], (base, size + PAGE)))


def other_entry(one: Description, choices: random.Random) -> Description:
    """Another first instruction."""
    return replace(one, entry=one.entry ^ 4)


def other_context(one: Description, choices: random.Random) -> Description:
    """Another bit of x0."""
    return replace(one, context=one.context ^ 1 << choices.randrange(64))


def measured_or_not(one: Description, choices: random.Random) -> Description:
    """A page that was measured comes zeroed."""
    index = choices.choice(one.measured)
    return with_step(one, index, (page_at(one, index)[0], None))


def one_vcpu_more(one: Description, choices: random.Random) -> Description | None:
    """Another number of vCPUs."""
    return replace(one, vcpus=one.vcpus + 1, steps=(*one.steps, one.vcpus)) if one.vcpus < 8 else None


@pytest.mark.parametrize("part", range(4))
def test_a_hundred_descriptions(machine: Machine, part: int) -> None:
    kinds = set()
    for number in range(part, DESCRIPTIONS, 4):
        choices = random.Random(f"measurement {number}")
        one = draw(choices)
        other = changed(one, choices)
        kinds.add(other.name)
        assert one.build(machine, choices.randrange(32)) == one.expected(), f"description {number}: {one}"
        assert other.build(machine, 32 + choices.randrange(32)) == other.expected(), (
            f"description {number}: {other}"
        )
        assert one.expected() != other.expected(), f"description {number}: {other.name} changes nothing"
        same, slot = otherwise(one, choices), choices.randrange(32)
        dismantle(machine)
        assert same.build(machine, slot) == one.expected(), f"description {number}: {same} is another"
        dismantle(machine)
        machine.forget_taken()
    assert len(kinds) > 4
