"""A fake machine and the specification, step by step: answers, memory, CPUs and events must be the specified ones.

The specification reads the machine's memory before the step; afterwards every word of it must be as specified, whether
the specification has named it or not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bulkhead.conformance import Machine
from bulkhead.conformance.backend import PAGE
from bulkhead.conformance.host import HostBackend, Next
from bulkhead.conformance.machine import ABI, describe, filler
from bulkhead.conformance.recorded import as_specified
from bulkhead.conformance.snapshot import unpack
from bulkhead.inspect.records import VM_SLOTS, VM_WORDS
from bulkhead.spec import dispatch, events, pairs, plain, stage2
from bulkhead.spec.calls import tested
from bulkhead.spec.context import ContextWord
from bulkhead.spec.state import Config, CpuWord, Inputs, Record, State
from bulkhead.spec.syndrome import EC_HVC
from bulkhead.spec.vcpu import Decision, Taken

WORD = 8
DMA_WINDOWS, RANDOM = 1, 2
COUNTERS = (64, len(ABI.exits), 8)
"""How many there are of each kind of `stats` on a fake machine."""
IRQ = next(line.value for line in ABI.exits if line.name == "IRQ")
Taker = Callable[[State, int], Taken]


def lazy(missing: Callable[[int], Any]) -> plain.PlainMap[Any]:
    """A map that asks for what is not changed."""
    return plain.PlainMap(plain.Sparse({}, missing))


class Follower:
    """Takes steps on a machine; AssertionError says what is not as specified."""

    def __init__(self, machine: Machine) -> None:
        assert isinstance(machine.backend, HostBackend)
        self.machine, self.backend = machine, machine.backend
        self.features = machine.ok("features").results["features"]
        self.lock, self.entropy, self._draws = 0, True, 0
        self.covered: Counter[pairs.Pair] = Counter()
        self.backend.events()

    # What the machine is before a step

    def state(self, opaque: tuple[int, ...] = ()) -> State:
        """The specification's view of the machine as it stands."""
        layout = self.machine.layout
        config = Config(
            layout.ram_base, layout.frames, layout.cpus, self.features & DMA_WINDOWS, self.features & RANDOM
        )
        places = self._arrays()

        def words(name: str) -> Callable[[int], int]:
            base, _ = places[name]
            return lambda key: self._word(base + key * WORD)

        def records(name: str) -> Callable[[int], Record]:
            read = words(name)
            return lambda key: plain.unpack(read(key))

        inputs = Inputs(self.lock, int(self.entropy), self._random(), self._identification, COUNTERS, opaque)
        return State(
            config,
            **{name: lazy(records(name)) for name in ("block", "frame")},
            **{name: lazy(words(name)) for name in ("ram", "host_entry", "dma_entry", "vm")},
            digest=plain.sha256,
            emptiness=plain.no_valid_entry,
            counter=self.backend.counter,
            cpu=lazy(lambda key: self._cpu_words(key >> 1)[key & 1]),
            inputs=inputs,
        )

    def _arrays(self) -> dict[str, tuple[int, int]]:
        layout = self.machine.layout
        return {
            "block": (layout.block_records, layout.blocks),
            "host_entry": (layout.host_level2, layout.blocks),
            "dma_entry": (layout.dma_level2, layout.blocks),
            "vm": (layout.vm_records, VM_SLOTS * VM_WORDS),
            "frame": (layout.frame_records, layout.frames),
            "ram": (layout.ram_base, layout.frames << stage2.TABLE_SHIFT),
        }

    def _word(self, address: int) -> int:
        return int.from_bytes(self.backend.physical(address, WORD), "little")

    def _cpu_words(self, cpu: int) -> tuple[int, int]:
        registers = self.backend.cpu(cpu)
        return int(registers.loaded), int(registers.timer_list)

    def _identification(self, register: object) -> int:
        assert isinstance(register, int)
        return int(self.backend.identification[register])

    def _random(self) -> tuple[int, int, int]:
        """What the fake source gives next: the hash of how often it has given something."""
        digest = unpack(hashlib.sha256(self._draws.to_bytes(8, "little")).digest())
        return digest[0], digest[1], digest[2]

    # Steps

    def host(self, cpu: int, function: int | str, *arguments: int) -> dispatch.Called:
        """HVC #0 by the host, unused registers filled."""
        number = function if isinstance(function, int) else _id(function)
        sent = [number, *arguments, *(filler(n) for n in range(1 + len(arguments), 18))]
        state, memory = self.state(), self._memory()
        maintenance = int(self.backend.cpu(cpu).maintenance)
        if number in (_id("log_read"), _id("stats")):
            # What these answer is open.
            got = self.backend.call(cpu, sent)
            state = self.state(got[1:11] if number == _id("log_read") else got[1:2])
            called = dispatch.host_call(state, cpu, sent)
        else:
            called = dispatch.host_call(state, cpu, sent)
            got = self.backend.call(cpu, sent)
        after, expected = called.state, called.registers
        if called.entered is not None:
            irq = Decision(Decision.EXIT, IRQ, (0, 0, 0))
            exit_ = dispatch.exit_registers(after, called.entered, irq, _lists(sent[3:6]), maintenance)
            expected = (*exit_, *sent[len(exit_) :])
        self._compare(describe(function, _numbered(arguments), cpu), memory, after, called)
        assert got == expected, f"{called.name} answers {_row(got)}; specified is {_row(expected or ())}"
        return called

    def exception(self, cpu: int, esr: int, far: int = 0, hpfar: int = 0) -> Taken:
        """A synchronous exception of the vCPU that is loaded on the CPU."""
        return self._step(
            cpu,
            f"exception {esr:#x} {far:#x} {hpfar:#x}",
            lambda state, frame: dispatch.exception(state, frame, esr, far, hpfar),
            lambda vcpu: self.backend.exception(cpu, vcpu, esr, far, hpfar),
        )

    def hvc(self, cpu: int, function: int | str, *arguments: int) -> Taken:
        """HVC #0 by the vCPU that is loaded on the CPU: x0, x1, ... as given, the others as they are."""
        number = function if isinstance(function, int) else _vm_id(function)
        for register, value in enumerate((number, *arguments)):
            self.poke(cpu, register, value)
        self.poke(cpu, ContextWord.PC, self.word(cpu, ContextWord.PC) + 4 & (1 << 64) - 1)
        return self.exception(cpu, EC_HVC << 26)

    def interrupt(self, cpu: int, intid: int) -> Taken:
        """A physical interrupt of group 1 while that vCPU ran."""
        return self._step(
            cpu,
            f"interrupt {intid}",
            lambda state, frame: dispatch.interrupt(state, frame, intid),
            lambda vcpu: self.backend.interrupt(cpu, vcpu, intid),
        )

    def system_error(self, cpu: int) -> Taken:
        """An SError interrupt while that vCPU ran."""
        return self._step(
            cpu, "SError", dispatch.system_error, lambda vcpu: self.backend.system_error(cpu, vcpu)
        )

    def _step(self, cpu: int, label: str, taker: Taker, act: Callable[[int], Next]) -> Taken:
        frame = self.loaded(cpu)
        state, memory = self.state(), self._memory()
        registers = self.backend.cpu(cpu)
        host = tuple(registers.host)
        taken = taker(state, frame)
        lists, maintenance = _lists(registers.lists), int(registers.maintenance)
        got = act(self.machine.address(frame))
        self._compare(f"{label} on CPU {cpu}", memory, taken.state, taken)
        decision = taken.decision
        kind = ("resume", "exit", "off").index(got.kind)
        specified = (decision.kind, decision.exit_class, decision.data)
        assert (kind, got.exit_class, got.data) == specified, f"{label}: {got}; specified is {decision}"
        if decision.kind != Decision.GO_ON:
            exit_ = dispatch.exit_registers(state, frame, decision, lists, maintenance)
            host = (*(int(word) for word in exit_ if isinstance(word, int)), *host[len(exit_) :])
        assert tuple(registers.host) == host, (
            f"{label}: the host sees {_row(registers.host)}, not {_row(host)}"
        )
        return taken

    # The vCPU that is loaded

    def loaded(self, cpu: int) -> int:
        """Frame of the vCPU that is loaded on a CPU."""
        frame = int(self.backend.cpu(cpu).loaded) - 1
        assert frame >= 0, f"no vCPU is loaded on CPU {cpu}"
        return frame

    def word(self, cpu: int, word: int) -> int:
        """A word of its context."""
        return self._word(self.machine.address(self.loaded(cpu)) + word * WORD)

    def poke(self, cpu: int, word: int, value: int) -> None:
        """What the VM has done with a register meanwhile."""
        address = self.machine.address(self.loaded(cpu)) + word * WORD
        self.backend.poke(address, value.to_bytes(WORD, "little"))

    def hold_lock(self, held: bool) -> None:
        """Another CPU has the ownership lock, or not."""
        self.lock = int(held)
        self.backend.hold_lock(held)

    def hold_entropy(self, held: bool) -> None:
        """The random source is empty, or not."""
        self.entropy = not held
        self.backend.set_entropy(not held)

    # Comparison

    def _memory(self) -> dict[str, tuple[int, bytearray]]:
        """Every word that a step could change, by map: index of the first, and the words."""
        layout, read = self.machine.layout, self.backend.physical
        split = (layout.split_block - layout.ram_base) // PAGE
        parts = {name: range(count) for name, (_, count) in self._arrays().items()}
        # Only one block is split here: no step touches any other frame.
        parts["frame"] = range(split, split + 512)
        parts["ram"] = range(split << stage2.TABLE_SHIFT, split + 512 << stage2.TABLE_SHIFT)
        return {
            name: (keys.start, bytearray(read(base + keys.start * WORD, len(keys) * WORD)))
            for name, keys in parts.items()
            for base in [self._arrays()[name][0]]
        }

    def _compare(
        self,
        label: str,
        memory: dict[str, tuple[int, bytearray]],
        state: State,
        taken: Taken | dispatch.Called,
    ) -> None:
        happened = as_specified(self.backend.events())
        self._draws += sum(isinstance(event, events.DrawRandom) for event in happened)
        specified = [event for event in taken.outcome.happened if not isinstance(event, events.ReadCounter)]
        assert happened == specified, f"{label}: events {happened}; specified are {specified}"
        after = self._memory()
        for name, (first, words) in memory.items():
            for key, value in getattr(state, name).changed().items():
                number = plain.pack(value) if name in ("frame", "block") else value
                words[(key - first) * WORD : (key - first + 1) * WORD] = number.to_bytes(WORD, "little")
            if words != after[name][1]:
                both = zip(unpack(bytes(words)), unpack(bytes(after[name][1])), strict=True)
                wrong = [
                    f"{name}[{first + n:#x}] is {got:#x}; specified is {wanted:#x}"
                    for n, (wanted, got) in enumerate(both)
                    if wanted != got
                ]
                raise AssertionError("\n  ".join([label, *wrong[:12]]))
        for cpu in range(self.machine.layout.cpus):
            wanted = tuple(state.cpu_word(cpu, word) for word in range(CpuWord.COUNT))
            assert self._cpu_words(cpu) == wanted, f"{label}: CPU {cpu} {self._cpu_words(cpu)}, not {wanted}"
        if taken.name in tested.TESTED:
            self.covered[pairs.of(taken.name, taken.outcome)] += 1


def _id(name: str) -> int:
    """The id of a call of the host."""
    return next((line.id for line in ABI.standards if line.name == name), None) or ABI.call(name).id


def _vm_id(name: str) -> int:
    """The id of a call of a VM."""
    return _id(name)


def _lists(words: Sequence[int]) -> tuple[int, int, int]:
    return int(words[0]), int(words[1]), int(words[2])


def _numbered(arguments: Sequence[int]) -> dict[str, int]:
    return {f"x{number}": value for number, value in enumerate(arguments, 1)}


def _row(registers: Sequence[object]) -> str:
    return " ".join(f"{value:x}" if isinstance(value, int) else str(value) for value in registers)
