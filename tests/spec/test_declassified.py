"""What the host gets to know by an exit: two runs that differ in everything else of the VM look the same to it.

Equal in both runs are the words that `declassified` names for the class, and the arguments by which a call comes to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.host import HostBackend, Next
from bulkhead.conformance.testing.machine import ABI, filler
from bulkhead.spec.context import BOOKKEEPING, ContextWord
from bulkhead.spec.declassified import HOST_LEARNS, WITH_EVERY_EXIT
from bulkhead.spec.syndrome import EC_DATA_ABORT, EC_SYSTEM, EC_WFX, HVC, Syndrome

pytestmark = pytest.mark.host

RAM, DEVICE, BLOCK_IPA = 0x4000_0000, 0x0900_0010, 0x4020_0000
STANDARD = {line.name: line.id for line in ABI.standards}
EXITS = {line.value: line.name for line in ABI.exits}
ISV, TRANSLATION = 1 << 24, 7


def fault(iss: int, address: int) -> Syndrome:
    """A data abort."""
    return Syndrome(EC_DATA_ABORT << 26 | iss | TRANSLATION, address, address >> 12 << 4)


def call(name: str, *arguments: int) -> dict[int, int]:
    """x0, x1, ... of a VM's call."""
    function = STANDARD.get(name) or ABI.call(name).id
    return dict(enumerate((function, *arguments)))


@dataclass(frozen=True)
class Case:
    """An exit: the syndrome or the interrupt behind it, and words that make it come about."""

    exit_class: str
    syndrome: Syndrome = HVC
    words: tuple[tuple[int, int], ...] = ()
    intid: int | None = None

    def take(self, backend: HostBackend, vcpu: int) -> Next:
        """The exit on CPU 0."""
        if self.exit_class == "DIED":
            return backend.system_error(0, vcpu)
        if self.intid is not None:
            return backend.interrupt(0, vcpu, self.intid)
        return backend.exception(0, vcpu, *(int(word) for word in self.syndrome if isinstance(word, int)))

    def declared(self) -> set[int]:
        """Words of the context that may show."""
        known = {word for source in HOST_LEARNS[self.exit_class] for word in source.words(self.syndrome)}
        return {int(word) for word in known if isinstance(word, int)} | {*WITH_EVERY_EXIT, *dict(self.words)}


def of_call(exit_class: str, name: str, *arguments: int) -> Case:
    """An exit by a call."""
    return Case(exit_class, words=tuple(call(name, *arguments).items()))


CASES = {
    "IRQ": Case("IRQ", intid=40),
    "VGIC": Case("VGIC", intid=25),
    "WFI": Case("WFI", Syndrome(EC_WFX << 26)),
    "WFE": Case("WFI", Syndrome(EC_WFX << 26 | 1)),
    "CPU_SUSPEND": of_call("WFI", "PSCI_CPU_SUSPEND"),
    "load": Case("MMIO_READ", fault(ISV | 2 << 22 | 9 << 16, DEVICE)),
    "store of a byte": Case("MMIO_WRITE", fault(ISV | 1 << 6 | 9 << 16, DEVICE)),
    "store": Case("MMIO_WRITE", fault(ISV | 1 << 6 | 3 << 22 | 9 << 16, DEVICE)),
    "store of zero": Case("MMIO_WRITE", fault(ISV | 1 << 6 | 3 << 22 | 31 << 16, DEVICE)),
    "fault": Case("MEM_FAULT", fault(0, RAM + 7 * PAGE)),
    "share of nothing": of_call("MEM_FAULT", "share", RAM + 7 * PAGE, 0, 0),
    "SGI": Case("SGI", Syndrome(EC_SYSTEM << 26 | 0x3A_3016 | 7 << 5)),
    "CPU_ON": of_call("PSCI", "PSCI_CPU_ON", 1, RAM, 5),
    "CPU_OFF": of_call("PSCI", "PSCI_CPU_OFF"),
    "SYSTEM_OFF": of_call("PSCI", "PSCI_SYSTEM_OFF"),
    "share": of_call("SHARE", "share", RAM, 0, 0),
    "relinquish": of_call("SHARE", "relinquish", RAM, 0, 0),
    "host_call": of_call("HOST_CALL", "host_call"),
    "died": Case("DIED"),
    "share of a block": of_call("NEEDS_SPLIT", "share", BLOCK_IPA, 0, 0),
}


def host_sees(
    case: Case, noise: int, change: Callable[[dict[int, int]], None] | None = None
) -> tuple[int, ...]:
    """x0 to x17 of the host after the exit; `noise` decides every word of the context that is not declared."""
    backend = HostBackend(((0x4000_0000, 16 << 20),), cpus=1)
    machine = Machine(backend)
    vm = Vm(machine, vcpus=2)
    vm.page()
    vm.block(BLOCK_IPA)
    vm.activate()
    vcpu = vm.contexts[0]
    line = ABI.call("vcpu_run")
    backend.call(0, [line.id, vcpu, 0, 0, 0, 0, 0, *map(filler, range(7, 18))])
    choices = random.Random(noise)
    kept = case.declared() | {*BOOKKEEPING, ContextWord.ZERO}
    words = {word: choices.getrandbits(64) for word in range(ContextWord.COUNT) if word not in kept}
    words |= {word: 0x1111_2222_3333_0000 | word for word in case.declared()} | dict(case.words)
    if change:
        change(words)
    for word, value in words.items():
        backend.poke(vcpu + 8 * word, value.to_bytes(8, "little"))
    decided = case.take(backend, vcpu)
    assert EXITS[decided.exit_class] == case.exit_class, decided
    seen = tuple(int(word) for word in backend.cpu(0).host)
    backend.close()
    return seen


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_only_declared_words_show(case: Case) -> None:
    assert host_sees(case, 1) == host_sees(case, 2)


def test_every_class_is_tried() -> None:
    assert {case.exit_class for case in CASES.values()} == HOST_LEARNS.keys()


SHOWN = {"store of a byte": 9, "store": 9, "SGI": 7, "host_call": 2}


@pytest.mark.parametrize(("name", "word"), SHOWN.items())
def test_declared_words_do_show(name: str, word: int) -> None:
    """The comparison has something to compare."""
    case = CASES[name]

    def change(words: dict[int, int]) -> None:
        words[word] ^= 1

    assert host_sees(case, 1) != host_sees(case, 1, change)


def test_the_timer_shows_at_every_exit() -> None:
    control, compare = WITH_EVERY_EXIT

    def enable(words: dict[int, int]) -> None:
        words.update({control: 1, compare: 0x5000})

    assert host_sees(CASES["WFI"], 1)[9] == (1 << 64) - 1
    assert host_sees(CASES["WFI"], 1, enable)[9] == 0x5000 + 0x1000


@pytest.mark.parametrize("number", range(3))
def test_a_word_more_would_be_noticed(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An exit that tells an undeclared register fails the test above."""
    case = CASES["host_call"]
    short = tuple(source for index, source in enumerate(HOST_LEARNS["HOST_CALL"]) if index != number)
    monkeypatch.setitem(HOST_LEARNS, "HOST_CALL", short)  # type: ignore[arg-type]  # a dictionary
    assert host_sees(case, 1) != host_sees(case, 2)
