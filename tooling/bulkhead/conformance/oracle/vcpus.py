"""Steps of vCPUs and calls beside ownership, on the fake machine: each must be the one that the specification takes.

Trust label: TOOL. What `oracle` does for calls that change ownership, for all of `bulkhead.spec.calls.tested`: compared
are registers of host and VM, every word of memory that either side writes, what CPUs have loaded, events in order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bulkhead.conformance.backends.host import HostBackend, Next
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.conformance.oracle.image import WORDS_IN_FRAME
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.snapshot import WORD, unpack
from bulkhead.conformance.testing.machine import ABI, MASK, Machine, filler
from bulkhead.errors import InvalidInput
from bulkhead.spec import Outcome, State, dispatch, pairs, stage2
from bulkhead.spec.calls import tested
from bulkhead.spec.context import ContextWord
from bulkhead.spec.state import CpuWord, Inputs
from bulkhead.spec.syndrome import EC_HVC
from bulkhead.spec.vcpu import Decision, Taken
from bulkhead.spec.words import Word

RANDOM = 2
"""Bit of `features`."""
COUNTERS = (64, len(ABI.exits), 8)
"""How many there are of each kind of `stats` on a fake machine."""
IRQ = next(line.value for line in ABI.exits if line.name == "IRQ")
IDS = {line.name: line.id for line in ABI.calls} | {line.name: line.id for line in ABI.standards}
OPAQUE = {IDS["log_read"]: 10, IDS["stats"]: 1}
"""Calls whose answer is open, and how many words it has."""
KINDS = ("resume", "exit", "off")
Taker = Callable[[State, int], Taken]


def as_step(taken: Taken) -> Outcome:
    """What a step leaves behind: of a VM that is refused its registers change, and nothing else happens."""
    if taken.outcome.success is True:
        return taken.outcome
    return replace(taken.outcome, success=True, committed=taken.state, events=())


class VcpuOracle(Oracle):
    """An oracle that also takes the steps of vCPUs. InvalidInput for any other backend than the fake machine."""

    def __init__(self, machine: Machine, *, thorough: bool = False) -> None:
        super().__init__(machine, thorough=thorough)
        if not isinstance(machine.backend, HostBackend):
            raise InvalidInput("steps of vCPUs are followed on the host backend only")
        self.backend = machine.backend
        self.has_random = machine.ok("features").results["features"] & RANDOM
        self._lock, self._entropy = 0, True

    @property
    def ghost(self) -> Ghost:
        """See Oracle; what CPUs have loaded is learnt as well."""
        is_new, ghost = self._ghost is None, super().ghost
        if is_new:
            for cpu in range(self.machine.layout.cpus):
                for word, value in enumerate(self._loaded_words(cpu)):
                    ghost.state.cpu.set(cpu << 1 | word, value, True)
        return ghost

    # Steps

    def host_call(self, cpu: int, function: int | str, *arguments: int) -> dispatch.Called:
        """HVC #0 by the host, unused registers filled."""
        __tracebackhide__ = True
        number = function if isinstance(function, int) else IDS[function]
        sent = [number, *arguments, *(filler(n) for n in range(1 + len(arguments), 18))]
        self._begin(f"host call {function}", cpu, **{f"x{n}": value for n, value in enumerate(arguments, 1)})
        state, maintenance = self.before(), int(self.backend.cpu(cpu).maintenance)
        got = self.backend.call(cpu, sent)
        if number in OPAQUE:
            inputs = replace(state.inputs, opaque=got[1 : 1 + OPAQUE[number]])
            state = replace(state, inputs=inputs)
        called = dispatch.host_call(state, cpu, sent)
        expected = called.registers
        if called.entered is not None:
            irq = Decision(Decision.EXIT, IRQ, (0, 0, 0))
            lists = (sent[3], sent[4], sent[5])
            exit_ = dispatch.exit_registers(called.state, called.entered, irq, lists, maintenance)
            expected = (*exit_, *sent[len(exit_) :])
        self._settle(called.name, difference("the host sees", got, expected or ()), called.outcome)
        return called

    def run(self, name: str, *, cpu: int = 0, **arguments: int) -> None:
        """See Oracle; as the specification has it."""
        __tracebackhide__ = True
        values = [arguments.get(argument, 0) for argument in ABI.call(name).args]
        self.host_call(cpu, name, *values)

    def exception(self, cpu: int, esr: int, far: int = 0, hpfar: int = 0) -> Taken:
        """A synchronous exception of the vCPU that is loaded on the CPU."""
        __tracebackhide__ = True
        self._begin("exception", cpu, esr=esr, far=far, hpfar=hpfar)
        return self._vcpu_step(
            cpu,
            lambda state, frame: dispatch.exception(state, frame, esr, far, hpfar),
            lambda vcpu: self.backend.exception(cpu, vcpu, esr, far, hpfar),
        )

    def hvc(self, cpu: int, function: int | str, *arguments: int) -> Taken:
        """HVC #0 by the vCPU that is loaded on the CPU: x0, x1, ... as given, the others as they are."""
        __tracebackhide__ = True
        number = function if isinstance(function, int) else IDS[function]
        for register, value in enumerate((number, *arguments)):
            self.set_word(cpu, register, value)
        self.set_word(cpu, ContextWord.PC, self.word(cpu, ContextWord.PC) + 4 & (1 << 64) - 1)
        return self.exception(cpu, EC_HVC << 26)

    def interrupt(self, cpu: int, intid: int) -> Taken:
        """A physical interrupt of group 1 while that vCPU ran."""
        __tracebackhide__ = True
        self._begin("interrupt", cpu, intid=intid)
        return self._vcpu_step(
            cpu,
            lambda state, frame: dispatch.interrupt(state, frame, intid),
            lambda vcpu: self.backend.interrupt(cpu, vcpu, intid),
        )

    def system_error(self, cpu: int) -> Taken:
        """An SError interrupt while that vCPU ran."""
        __tracebackhide__ = True
        self._begin("SError", cpu)
        return self._vcpu_step(cpu, dispatch.system_error, lambda vcpu: self.backend.system_error(cpu, vcpu))

    # The vCPU that is loaded, and what is around it

    def loaded(self, cpu: int) -> int | None:
        """Frame of the vCPU that is loaded on a CPU, if any."""
        frame = int(self.backend.cpu(cpu).loaded)
        return frame - 1 if frame else None

    def word(self, cpu: int, word: int) -> int:
        """A word of its context."""
        value = self.ghost.state.ram[stage2.word(self._frame(cpu), word)]
        assert isinstance(value, int)
        return value

    def set_word(self, cpu: int, word: int, value: int) -> None:
        """What the VM has done with a register meanwhile."""
        address = self.machine.address(self._frame(cpu)) + word * WORD
        self.ghost.write(address, value.to_bytes(WORD, "little"))

    def hold_lock(self, held: bool) -> None:
        """Another CPU has the ownership lock, or not."""
        self._lock = int(held)
        self.backend.hold_lock(held)

    def hold_entropy(self, held: bool) -> None:
        """The random source is empty, or not."""
        self._entropy = not held
        self.backend.set_entropy(not held)

    def _frame(self, cpu: int) -> int:
        frame = self.loaded(cpu)
        if frame is None:
            raise InvalidInput(f"no vCPU is loaded on CPU {cpu}")
        return frame

    # How a step is followed

    def _call_of_vm(
        self, context: int, sent: tuple[int, ...], expected: Outcome
    ) -> tuple[Outcome, list[int]]:
        """See Oracle: every word of the context is specified."""
        image, first = self.ghost.image, context * WORDS_IN_FRAME
        image.put(first, struct.pack(f"<{len(sent)}Q", *sent))
        # The preferred return address of an HVC is that of the next instruction (DDI 0487, D1.3).
        image.words[first + ContextWord.PC] = image.words[first + ContextWord.PC] + 4 & MASK
        return as_step(dispatch.vm_call(self.before(), context)), []

    def _begin(self, name: str, cpu: int, **arguments: int) -> None:
        self.ghost.begin()
        self.last.append((name, arguments, cpu))

    def before(self) -> State:
        """The state before a step, with what the machine outside of memory is about to tell."""
        state = self.ghost.state
        inputs = Inputs(self._lock, int(self._entropy), self._random(), self._identification, COUNTERS)
        config = replace(state.config, has_random=self.has_random)
        return replace(state, config=config, inputs=inputs, counter=self.backend.counter)

    def _random(self) -> tuple[int, int, int]:
        """What the fake source gives next: the hash of how often it has given something."""
        digest = unpack(hashlib.sha256(self.backend.randoms.to_bytes(8, "little")).digest())
        return digest[0], digest[1], digest[2]

    def _identification(self, register: Word) -> int:
        assert isinstance(register, int)
        return int(self.backend.identification[register])

    def _vcpu_step(self, cpu: int, taker: Taker, act: Callable[[int], Next]) -> Taken:
        __tracebackhide__ = True
        frame, registers = self._frame(cpu), self.backend.cpu(cpu)
        state, host = self.before(), tuple(registers.host)
        lists = (int(registers.lists[0]), int(registers.lists[1]), int(registers.lists[2]))
        maintenance = int(registers.maintenance)
        got = act(self.machine.address(frame))
        taken = taker(state, frame)
        decision = taken.decision
        if decision.kind != Decision.GO_ON:
            exit_ = dispatch.exit_registers(state, frame, decision, lists, maintenance)
            host = (*exit_, *host[len(exit_) :])
        differences = [*difference("the host sees", tuple(registers.host), host)]
        if (KINDS.index(got.kind), got.exit_class, got.data) != (
            decision.kind,
            decision.exit_class,
            decision.data,
        ):
            differences.append(f"goes on with {got}; specified is {decision}")
        self._settle(taken.name, differences, as_step(taken), taken.outcome)
        return taken

    def _settle(
        self, name: str, differences: Sequence[str], step: Outcome, shown: Outcome | None = None
    ) -> None:
        """The step just made is judged, and counted as what `shown` shows."""
        __tracebackhide__ = True
        behind = step.state
        found = [
            *differences,
            *(line for cpu in range(self.machine.layout.cpus) for line in self._loads(cpu, behind)),
        ]
        self._judge(found, step, [])
        if name in tested.TESTED:
            self.pairs[pairs.of(name, shown or step)] += 1

    def _loaded_words(self, cpu: int) -> tuple[int, int]:
        registers = self.backend.cpu(cpu)
        return int(registers.loaded), int(registers.timer_list)

    def _loads(self, cpu: int, state: State) -> Iterator[str]:
        got = self._loaded_words(cpu)
        wanted = state.cpu_word(cpu, CpuWord.LOADED), state.cpu_word(cpu, CpuWord.TIMER_LIST)
        if got != wanted:
            yield f"CPU {cpu} has loaded {got}; specified is {wanted}"


def difference(what: str, got: Sequence[int], specified: Sequence[Word]) -> list[str]:
    """A sentence if registers are not as specified."""
    if tuple(got) == tuple(specified):
        return []
    wrong = [
        f"x{n} is {one:#x}, not {other:#x}"
        for n, (one, other) in enumerate(zip(got, specified, strict=True))
        if one != other and isinstance(other, int)
    ]
    return [f"{what} {', '.join(wrong)}"]
