"""vCPUs of the booted engine: real turns of a real VM, and the host's calls beside ownership, as specified.

Trust label: TOOL. The VM's registers before a turn are put into its context behind the engine's back, as if the VM had
run before; then the CPU executes its instruction, the engine handles the exception, and all registers of VM and host
are compared. What the machine outside of memory tells (random numbers, the counter) is taken from what came back, and
must make sense.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bulkhead.conformance.backends.backend import REGISTERS
from bulkhead.conformance.backends.caller import constant
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.backends.trapping import Program, move, unpacked
from bulkhead.conformance.oracle.image import WORDS_IN_FRAME
from bulkhead.conformance.oracle.snapshot import WORD, unpack
from bulkhead.conformance.oracle.turn import STEPS_MAX, Course, play
from bulkhead.conformance.oracle.vcpus import IDS, IRQ, OPAQUE, RANDOM, difference
from bulkhead.conformance.sequences.aim import number
from bulkhead.conformance.sequences.booted import BootedOracle
from bulkhead.conformance.testing.machine import MASK, Machine, filler
from bulkhead.spec import State, context, dispatch, pairs, stage2
from bulkhead.spec.calls import tested
from bulkhead.spec.calls.traps import IDENTIFICATION, REGISTER, named
from bulkhead.spec.context import ContextWord, register
from bulkhead.spec.pairs import Pair
from bulkhead.spec.state import CpuWord, Inputs, Power, Run, VmWord
from bulkhead.spec.transaction import STATUS, SUCCESS
from bulkhead.spec.words import Word

EXIT_CLASSES, BOOT_STAGES = 16, 7
COUNTERS = (64, EXIT_CLASSES, BOOT_STAGES)
"""How many there are of each kind of `stats`."""
ANSWERS = (
    SUCCESS,
    *(STATUS[name] for name in ("INVALID_PARAMETERS", "INVALID_ADDRESS", "ALREADY_ON", "DENIED")),
)
"""Of PSCI calls about CPUs that are all on."""
TIMER_STATUS = 1 << 2
"""ISTATUS of CNTV_CTL_EL0 is the CPU's, not the VM's."""
HARDWARE = (ContextWord.TIMER_ACTIVE, register("CNTV_CTL_EL0"), register("ICH_VMCR_EL2"))
"""Words of a context in which the CPU has a say: whether the timer's interrupt is active, the timer's status, the
binary points of interrupt priorities, which have a minimum.
"""
MAINTENANCE = 3 << 1
"""Bits of the control word that ask for VGIC exits."""


@dataclass(frozen=True)
class Turn:
    """A `vcpu_run` on a CPU of the vCPU with its context at physical `vcpu`, of which `words` were changed before.

    The vCPU stays loaded behind it if `stays`; the ownership lock is taken meanwhile if `locked`; the vCPU of the frame
    `starting` is being started.
    """

    cpu: int
    vcpu: int
    words: Mapping[int, int] = field(default_factory=dict)
    reply: int = 0
    lists: tuple[int, int, int] = (0, 0, 0)
    control: int = 0
    stays: bool = False
    locked: bool = False
    starting: int | None = None

    @property
    def sent(self) -> tuple[int, ...]:
        """x0 to x17 of the call."""
        used = (IDS["vcpu_run"], self.vcpu, self.reply, *self.lists, self.control)
        return (*used, *map(filler, range(len(used), REGISTERS)))


class BootedVcpus(BootedOracle):
    """Also judges turns of vCPUs whose program is that of `trapping`, and calls beside ownership."""

    def __init__(self, machine: Machine, program: Program, *, thorough: bool = False) -> None:
        super().__init__(machine, thorough=thorough)
        assert isinstance(machine.backend, QemuBackend)
        self.program = program
        self.has_random = machine.ok("features").results["features"] & RANDOM
        self._identification = identification(machine)
        self.has_sve = self._identification[PFR0] >> SVE_FIELD & 0xF != 0
        self._counter = 0
        self._drawn: set[tuple[Word, ...]] = set()

    def before(self, *, locked: bool = False) -> State:
        """The state before a step, with what the machine outside of memory is known to tell."""
        state = self.ghost.state
        inputs = Inputs(int(locked), 1, (0, 0, 0), self._identify, COUNTERS, power=self._power)
        return replace(state, config=replace(state.config, has_random=self.has_random), inputs=inputs)

    def foretell(self, turn: Turn) -> Course:
        """The turn as it would be now. NotForetold."""
        state = self.before(locked=turn.locked)
        if turn.words or turn.starting is not None:
            state = state.copy()
            for word, value in turn.words.items():
                state.ram.set(stage2.word(self.machine.index(turn.vcpu), word), value, True)
        if turn.starting is not None:
            state.frame.set(turn.starting, state.frame[turn.starting]._replace(parent=Run.TRANSIT), True)
        return play(state, turn.cpu, turn.sent, self.program)

    def foretell_call(self, cpu: int, registers: Sequence[int], *, locked: bool = False) -> Pair:
        """What a call of the host beside ownership would show now."""
        called = dispatch.host_call(self.before(locked=locked), cpu, registers)
        return pairs.of(called.name, called.outcome)

    # Steps

    def host_call(self, cpu: int, function: int, *arguments: int, locked: bool = False) -> Pair:
        """A call beside ownership, unused registers filled, while another CPU has the lock if `locked`; what it has
        shown.
        """
        __tracebackhide__ = True
        sent = (function, *arguments, *map(filler, range(1 + len(arguments), REGISTERS)))
        self.ghost.begin()
        name = dispatch.HOST[function].name if function in dispatch.HOST else f"{function:#x}"
        self.last.append((name, {f"x{n}": value for n, value in enumerate(arguments, 1)}, cpu))
        state, got = self.before(locked=locked), self._call(cpu, sent, locked)
        opaque, drawn = got[1 : 1 + OPAQUE.get(function, 0)], self._random(function, got)
        assert name not in tested.POWER or got[0] in ANSWERS, f"{name} answers {got[0]:#x}"
        state = replace(state, inputs=replace(state.inputs, opaque=opaque, random=drawn, firmware=got[0]))
        called = dispatch.host_call(state, cpu, sent)
        assert called.registers is not None, "a turn of a VM is made by `turn`"
        found = [*difference("the host sees", got, called.registers), *self._contexts(cpu)]
        self._judge(found, called.outcome)
        shown = pairs.of(called.name, called.outcome)
        self.pairs[shown] += 1
        return shown

    def turn(self, turn: Turn) -> tuple[Pair, ...]:
        """The host runs a vCPU, and unless it is to stay loaded, puts it; what this has shown."""
        __tracebackhide__ = True
        ghost, frame = self.ghost, self.machine.index(turn.vcpu)
        ghost.begin()
        self.last.append(("vcpu_run", _shown(turn), turn.cpu))
        for word, value in turn.words.items():
            ghost.write(turn.vcpu + word * WORD, struct.pack("<Q", value))
        with ghost.starting(turn.starting):
            return self._take(turn, frame)

    def _take(self, turn: Turn, frame: int) -> tuple[Pair, ...]:
        """With all that is around it."""
        __tracebackhide__ = True
        ghost, foretold = self.ghost, self.foretell(turn)
        got = self._call(turn.cpu, turn.sent, turn.locked)
        put = self.machine.backend.call(turn.cpu, PUT) if foretold.steps and not turn.stays else None
        state, interrupted = self.before(locked=turn.locked), STEPS_MAX
        found: list[str] = []
        if foretold.steps:
            found += self._contexts(turn.cpu, frame)
            words = unpack(ghost.watch.read(frame * WORDS_IN_FRAME, ContextWord.COUNT))
            interrupted = _interrupted(foretold, frame, got, words)
            state = self._informed(state, foretold, frame, words)
        course = play(state, turn.cpu, turn.sent, self.program, ghost.take, interrupted)
        found += _host_sees(turn, course, got)
        shown = course.pairs
        if put is not None:
            called = dispatch.host_call(self.before(), turn.cpu, PUT)
            ghost.take(called.outcome)
            found += difference("the host sees of vcpu_put", put, called.registers or ())
            shown += (pairs.of(called.name, called.outcome),)
        self._conclude([*found, *ghost.compare()])
        self.pairs.update(shown)
        return shown

    def _call(self, cpu: int, sent: Sequence[int], locked: bool) -> tuple[int, ...]:
        """x0 to x17 behind a call of the host."""
        if not locked:
            return self.machine.backend.call(cpu, sent)
        with self.machine.locked():
            return self.machine.backend.call(cpu, sent)

    def _contexts(self, cpu: int, *frames: int) -> Iterator[str]:
        """These contexts, and that of the vCPU that was loaded, are looked at as a whole; but words in which the CPU
        has a say are taken as they are, if the rest of them is as it was.
        """
        control = register("CNTV_CTL_EL0")
        loaded = number(self.ghost.state.cpu_word(cpu, CpuWord.LOADED))
        for frame in {*frames, loaded - 1} if loaded else frames:
            first = frame * WORDS_IN_FRAME
            own = unpack(self.ghost.watch.read(first + control, 1))[0] & ~TIMER_STATUS
            wanted = number(self.ghost.state.ram[stage2.word(frame, control)]) & ~TIMER_STATUS
            if own != wanted:
                yield f"CNTV_CTL_EL0 is {own:#x}; specified is {wanted:#x}"
            for position in HARDWARE:
                self.ghost.learn(first + position, 1)
            self.ghost.look_at(frame)

    def _informed(self, state: State, course: Course, frame: int, words: Sequence[int]) -> State:
        """With the random numbers and the count that the VM has got."""
        for step, before in zip(course.steps, course.before, strict=True):
            if "TRNG_RND" in step.name and step.outcome.success is True:
                random = self._random(IDS[step.name.removeprefix(tested.OF_VM)], words)
                state = replace(state, inputs=replace(state.inputs, random=random))
            elif step.name == "VM: system register":
                state = self._counted(state, before, frame, words)
        return state

    def _counted(self, state: State, before: State, frame: int, words: Sequence[int]) -> State:
        """With the counter as it was if the instruction that stands there reads it."""
        pc = before.ram[stage2.word(frame, ContextWord.PC)]
        assert isinstance(pc, int)
        syndrome = self.program.at(pc).syndrome or 0
        transfer = syndrome >> 5 & 31
        if syndrome & (REGISTER | 1) != named("CNTPCT_EL0") | 1 or transfer == ContextWord.ZERO:
            return state
        vm = before.frame[frame].vm
        offset = before.vm_word(vm, VmWord.COUNTER_OFFSET)
        assert isinstance(vm, int) and isinstance(offset, int)
        count = words[transfer] + offset & MASK
        assert count > self._counter, f"the VM reads the count {count:#x} after {self._counter:#x}"
        self._counter = count
        return replace(state, counter=count)

    def _random(self, function: int, registers: Sequence[int]) -> tuple[int, int, int]:
        """What the source has given, lowest word first: nobody gets the same twice."""
        status, first, second, third = registers[:4]
        if status != SUCCESS or function not in (IDS["TRNG_RND32"], IDS["TRNG_RND64"]):
            return 0, 0, 0
        is_short = function == IDS["TRNG_RND32"]
        drawn = (second << 32 | third, first, 0) if is_short else (third, second, first)
        if sum(drawn) >> 48:
            assert drawn not in self._drawn, f"the same random numbers twice: {list(map(hex, drawn))}"
            self._drawn.add(drawn)
        return drawn

    def _power(self, affinity: Word) -> Word:
        """All CPUs are on; their affinities are their numbers."""
        return Power.ON if number(affinity) < self.machine.layout.cpus else Power.ABSENT

    def _identify(self, register: Word) -> int:
        return self._identification.get(number(register), 0)


SHOWN = 4
"""General registers of the VM that a failure shows, as they were before."""
PFR0, SVE_FIELD = 4 << 3, 32
"""ID_AA64PFR0_EL1 by 8 * CRm + op2, and its lowest bit of SVE."""
STORE_AND_NEXT, RETURN = 0xF8008401, 0xD65F03C0
"""STR X1, [X0], #8; RET."""
PUT = (IDS["vcpu_put"], *map(filler, range(1, REGISTERS)))
"""x0 to x17 of vcpu_put."""


def identification(machine: Machine) -> dict[int, int]:
    """The CPU's ID registers as its host reads them, by 8 * CRm + op2."""
    code, values = machine.take(), machine.take()
    words = constant(0, values)
    for encoding in IDENTIFICATION:
        words += [move(encoding, 1, read=True).word, STORE_AND_NEXT]
    machine.backend.write(code, struct.pack(f"<{len(words) + 1}I", *words, RETURN))
    assert isinstance(machine.backend, QemuBackend)
    machine.backend.execute(code)
    numbers = [crm << 3 | op2 for _, _, _, crm, op2 in map(unpacked, IDENTIFICATION)]
    return dict(zip(numbers, unpack(machine.backend.memory(values, WORD * len(numbers))), strict=True))


def _interrupted(course: Course, frame: int, got: Sequence[int], words: Sequence[int]) -> int:
    """After how many steps an interrupt of the host has ended the turn, if one did that was not foretold."""
    if course.ends_by_host or got[:2] != (0, IRQ):
        return STEPS_MAX
    seen = (words[ContextWord.PC], words[ContextWord.PSTATE])
    for position, state in reversed(list(enumerate(course.before))):  # the host's has the lowest priority
        there = tuple(state.ram[stage2.word(frame, word)] for word in (ContextWord.PC, ContextWord.PSTATE))
        if there == seen:
            return position
    return STEPS_MAX


def _host_sees(turn: Turn, course: Course, got: Sequence[int]) -> list[str]:
    """What differs in x0 to x17 behind the call that began the turn."""
    expected = course.called.registers
    if expected is None:
        assert course.end is not None and course.called.entered is not None
        maintenance = got[8] if turn.control & MAINTENANCE else 0
        exit_ = dispatch.exit_registers(
            course.after, course.called.entered, course.end, turn.lists, maintenance
        )
        expected = (*exit_, *turn.sent[len(exit_) :])
    return difference("the host sees", got, expected)


def _shown(turn: Turn) -> dict[str, int]:
    """For people: the arguments of the call, and where and with what the VM stands."""
    shown = (*range(SHOWN), ContextWord.PC, ContextWord.PSTATE)
    words = {context.name_of(word): turn.words[word] for word in shown if word in turn.words}
    lists = {f"lr{position}": value for position, value in enumerate(turn.lists) if value}
    return {"vcpu": turn.vcpu, "reply": turn.reply, **lists, "control": turn.control, **words}
