"""A machine whose calls are recorded instruction by instruction, and compared with the specification's events.

Trust label: TOOL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle.ghost import Ghost
from bulkhead.conformance.oracle.oracle import number
from bulkhead.conformance.oracle.snapshot import unpack
from bulkhead.conformance.testing.machine import ABI, Machine, Reply, describe, find
from bulkhead.errors import MachineError
from bulkhead.image.build import build
from bulkhead.inspect import attributes
from bulkhead.inspect.engine import stopped_view
from bulkhead.prove.exec.image import Image
from bulkhead.prove.lowering import CONTEXT_MEMBERS, VMID_SHIFT
from bulkhead.spec import ARGUMENTS, CALLS, STEPS, Outcome, State, stage2
from bulkhead.spec.state import VmWord
from bulkhead.trace import expected
from bulkhead.trace.leaf import text_of
from bulkhead.trace.probe import Probe, Record
from bulkhead.trace.steps import Happened, Reader, critical

CONFIG_WORDS = 7


class TracedMachine(Machine):
    """A machine in QEMU each of whose calls is compared with the specification; `differences` says what was not so."""

    def __init__(self, backend: QemuBackend, probe: Probe) -> None:
        """`backend` runs with the options of `probe`."""
        super().__init__(backend)
        self._qemu, self._probe = backend, probe
        self.differences: list[str] = []
        self.checked: dict[str, int] = {}
        """Call or step → how often its trace was compared."""
        with stopped_view(backend.machine, backend.symbols) as view:
            words = unpack(view.read_virtual(backend.symbols.address("CONFIG"), 8 * CONFIG_WORDS))
        self._host_vttbr, self._host_vtcr, self._vm_vtcr, self._has_dma = words[3:]
        self._reader = Reader(
            backend.symbols, probe.base, probe.words, self.layout.ram_base, self.layout.frames
        )
        with_types = Image(build("pinned", "payload").elf)  # variants have no debug information
        self._context = tuple(with_types.offset("VcpuContext", *member) // 8 for member in CONTEXT_MEMBERS)

    def call(self, name: str | int, *, cpu: int = 0, **arguments: int) -> Reply:
        """See Machine; what changes ownership is traced."""
        line = find(name)
        if line.name not in CALLS:
            return super().call(name, cpu=cpu, **arguments)
        state = self._state()
        with self._probe.recording() as records:
            reply = super().call(name, cpu=cpu, **arguments)
        given = {argument: arguments.get(argument, 0) for argument in ARGUMENTS[line.name]}
        self._compare(line.name, given, CALLS[line.name](state, **given), state, self._host, records)
        return reply

    def quickly(self, name: str, **arguments: int) -> None:
        """A call that must succeed, and is not traced."""
        reply = super().call(name, **arguments)
        assert reply.status == "SUCCESS", f"{describe(name, arguments, 0)} answers {reply}"

    def check_attributes(self) -> None:
        """Every descriptor in use has the attributes that it must have."""
        with stopped_view(self._qemu.machine, self._qemu.symbols) as view:
            self.differences += attributes.faults(view)

    def touch(self, address: int) -> None:
        """The host's first access to a block, which brings it to the engine."""
        block = (address - self.layout.ram_base) // stage2.BLOCK_SIZE
        state = self._state()
        with self._probe.recording() as records:
            self._qemu.memory(address, 8)
        outcome = STEPS["first_touch"](state, block=block)
        self._compare("first_touch", {"block": block}, outcome, state, self._host, records)

    def run(self, vcpu: int, step: str, vm: int, ipa: int) -> None:
        """Runs the vCPU, whose VM takes `step` with its page at `ipa` next, until it has."""
        state = self._state()
        for _ in range(100):
            with self._probe.recording() as records:
                reply = super().call("vcpu_run", vcpu=vcpu)
            if critical(self._reader.steps(records)):
                break
        else:
            raise MachineError(f"the VM does not take its step {step}")
        super().call("vcpu_put")
        root = stage2.address(state.config, state.vm_word(vm, VmWord.ROOT))
        registers = (vm + 1) << VMID_SHIFT | number(root), self._vm_vtcr
        arguments = {"vm": vm, "ipa": ipa, "zero2": 0, "zero3": 0}
        self._compare(step, arguments, STEPS[step](state, **arguments), state, registers, records)
        if reply.results.get("class") != ABI_SHARE:
            self.differences.append(f"{describe(step, arguments, 0)} ends with {reply}")

    @property
    def _host(self) -> tuple[int, int]:
        return self._host_vttbr, self._host_vtcr

    def _state(self) -> State:
        return Ghost(self, self._has_dma).state

    def _compare(
        self,
        name: str,
        arguments: dict[str, int],
        outcome: Outcome,
        state: State,
        registers: tuple[int, int],
        records: Sequence[Record],
    ) -> None:
        context = expected.translation(
            *registers, self._vm_vtcr, self._host_vttbr, self._host_vtcr, self._context
        )
        happened = critical(self._reader.steps(records))
        self.checked[name] = self.checked.get(name, 0) + 1
        title = describe(name, arguments, 0)
        if len(happened) != 1:
            self.differences.append(f"{title} takes the lock {len(happened)} times, not once")
            return
        wanted = expected.steps(outcome.happened, state, context)
        self.differences += [f"{title}\n  {line}" for line in self._lines(happened[0], wanted)]

    def _lines(self, happened: list[Happened], wanted: list[tuple[str | int, ...]]) -> Iterator[str]:
        """The first step that differs, and whatever is wrong inside the leaves up to there."""
        for position, (one, other) in enumerate(zip_longest(happened, wanted), 1):
            for fault in one.faults if one else ():
                yield f"step {position}: {fault}{self._place(one)}"
            if one is None or one.step[: len(other or ())] != other:
                got = "is missing" if one is None else f"is '{text_of(one.step)}'{self._place(one)}"
                yield f"step {position} {got}; specified is {text_of(other) if other else 'nothing more'!r}"
                return

    def _place(self, one: Happened) -> str:
        return f" at {self._qemu.symbols.describe(one.pc)}"


ABI_SHARE = next(line.value for line in ABI.exits if line.name == "SHARE")
