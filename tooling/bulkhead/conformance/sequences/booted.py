"""The oracle of the booted engine: a VM really makes its calls, the host program really touches blocks.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bulkhead.conformance.backends import caller
from bulkhead.conformance.backends.backend import BLOCK, REGISTERS
from bulkhead.conformance.backends.caller import ASKED, Caller, Made
from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle.image import WORDS_IN_FRAME
from bulkhead.conformance.oracle.oracle import Oracle
from bulkhead.conformance.oracle.recorded import CONTEXT_PC, CONTEXT_X0
from bulkhead.conformance.oracle.snapshot import unpack
from bulkhead.conformance.sequences.aim import number
from bulkhead.conformance.testing.builder import RAM
from bulkhead.conformance.testing.machine import ABI, Machine, filler
from bulkhead.spec import ARGUMENTS, STEPS, Outcome, State
from bulkhead.spec.state import VmWord
from bulkhead.spec.transaction import EXIT


class BootedOracle(Oracle):
    """Also judges steps that a VM makes itself, and first touches by the host program."""

    def __init__(self, machine: Machine, *, thorough: bool = False) -> None:
        super().__init__(machine, thorough=thorough)
        assert isinstance(machine.backend, QemuBackend)
        self.payload = machine.backend
        self._caller = Caller(machine.backend)
        self.programs = machine.backend.programs

    @property
    def state(self) -> State:
        """As specified."""
        return self.ghost.state

    def write(self, address: int, data: bytes) -> None:
        """The host fills a frame of its own."""
        self.ghost.write(address, data)

    def load(self, vcpu: int, cpu: int) -> None:
        """A vCPU is loaded on a CPU, and stays there."""
        self.machine.ok("vcpu_run", cpu=cpu, vcpu=vcpu)
        self.forget()

    def unload(self, vcpu: int, cpu: int) -> None:
        """The vCPU that `load` has loaded is unloaded."""
        self.machine.ok("vcpu_put", cpu=cpu)
        self.forget()

    def vm_step(self, name: str, vm: int, x1: int, x2: int = 0, x3: int = 0, *, cpu: int = 0) -> Next:
        """The call of vCPU 0 of a VM whose program is that of `caller`."""
        __tracebackhide__ = True
        self.ghost.begin()
        arguments = dict(zip(ARGUMENTS[name], (vm, x1, x2, x3), strict=True))
        self.last.append((name, arguments, cpu))
        context = number(self.ghost.state.vm_word(vm, VmWord.VCPU)) - 1
        sent = (ABI.call(name).id, x1, x2, x3, filler(4))
        made = self._caller.call(cpu, self.machine.address(context), sent)
        expected = STEPS[name](self.ghost.state, **arguments)
        wrong = list(answer_of_vm(sent, made, expected))
        if not made.registers:
            wrong += self._repeats(context, sent)
        self._judge(wrong, expected, [context])
        self._note(name, expected)
        return made.seen

    def _repeats(self, context: int, sent: tuple[int, ...]) -> Iterator[str]:
        """What differs from a VM that stands before its call and will make it again."""
        words = unpack(self.ghost.watch.read(context * WORDS_IN_FRAME, WORDS_IN_FRAME))
        if words[CONTEXT_PC] != RAM + caller.CALL_AT:
            yield f"leaves the VM at {words[CONTEXT_PC]:#x}, not before its call"
        kept = (*sent, *map(filler, range(ASKED, REGISTERS)))
        if words[CONTEXT_X0 : CONTEXT_X0 + REGISTERS] != kept:
            yield "changes registers of a VM that will repeat its call"

    def first_touch(self, block: int, *, cpu: int = 0) -> None:
        """A load by the host program from the block at physical `block`, on CPU 0."""
        __tracebackhide__ = True
        self.ghost.begin()
        self.last.append(("first_touch", {"block": block}, 0))
        wrong = [] if self.payload.memory(block, 8) == bytes(8) else ["lets the host read what is not zero"]
        self.follow_touch(block, wrong)

    def follow_touch(self, block: int, wrong: Iterable[str] = ()) -> None:
        """A CPU has touched the block at physical `block`; `wrong` are sentences about what it saw."""
        __tracebackhide__ = True
        of = (block - self.machine.layout.ram_base) // BLOCK
        expected = STEPS["first_touch"](self.ghost.state, block=of)
        self._judge(wrong, expected, [])
        self._note("first_touch", expected)


def answer_of_vm(sent: tuple[int, ...], made: Made, expected: Outcome) -> Iterator[str]:
    """What differs in what the VM and the host see of a call of the VM."""
    last = expected.needs[-1]
    if expected.success is True:
        registers, seen = (0, *sent[1:]), Next("exit", EXIT["SHARE"], (sent[0], sent[1], 0))
    elif last.exits:
        registers, seen = (), Next("exit", last.answer, (number(last.detail), 0, 0))
    else:
        registers, seen = (last.answer, number(last.detail), *sent[2:]), Next("resume", 0, (0, 0, 0))
    if made.registers != registers:
        yield f"leaves {list(map(hex, made.registers))} to the VM; specified is {list(map(hex, registers))}"
    if made.seen != seen:
        yield f"goes on with {made.seen}; specified is {seen}"
    if not made.rest_unchanged:
        yield "changes registers behind x4 of the VM"
