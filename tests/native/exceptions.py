"""Exceptions handed to a vCPU of the fake machine, with syndromes that no real guest gives at will."""

from __future__ import annotations

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.backends.host import HostBackend, Next
from bulkhead.conformance.oracle.snapshot import unpack
from bulkhead.conformance.testing.machine import ABI, filler
from bulkhead.spec.context import register

EC_DATA, EC_FETCH, EC_WFX, EC_HVC, EC_SMC, EC_SYSTEM = 0x24, 0x20, 0x01, 0x16, 0x17, 0x18
EXITS = {line.name: line.value for line in ABI.exits}
X, PC, PSTATE, PENDING = 0, 32, 33, 57
"""Words of a vCPU context: x0, program counter, processor state, what the next reply is for."""


class Exceptions:
    """A vCPU on the fake machine, to which exceptions are handed."""

    def __init__(self, machine: Machine, vm: Vm) -> None:
        assert isinstance(machine.backend, HostBackend)
        self.machine, self.vm, self.backend = machine, vm, machine.backend
        self.vcpu = vm.contexts[0]

    def take(self, ec: int, iss: int, ipa: int = 0) -> Next:
        """An exception of class `ec` with syndrome `iss` for the address `ipa`."""
        return self.backend.exception(0, self.vcpu, ec << 26 | 1 << 25 | iss, far=ipa, hpfar=ipa >> 12 << 4)

    def context(self) -> tuple[int, ...]:
        """All words of the context."""
        return unpack(self.machine.physical(self.vcpu))

    def word(self, word: int) -> int:
        """A word of the context."""
        return self.context()[word]

    def poke(self, word: int, value: int) -> None:
        """Another value for a word of the context."""
        self.backend.poke(self.vcpu + 8 * word, value.to_bytes(8, "little"))

    def set(self, name: str, value: int) -> None:
        """Another value for a system register of the vCPU."""
        self.poke(register(name), value)

    def identify(self, value: int) -> None:
        """Every ID register of the hardware."""
        for number in range(64):
            self.backend.identification[number] = value

    def call(self, function: int, *arguments: int) -> tuple[tuple[int, ...], Next]:
        """HVC #0 by the vCPU, unused registers filled."""
        values = [function, *arguments]
        values += [filler(number) for number in range(len(values), 18)]
        return self.backend.vm_call(0, self.vm.slot, values)

    def injected(self) -> tuple[int, ...]:
        """ELR, SPSR, ESR, FAR of the exception that the vCPU was made to take last."""
        return self.seen("SetException")[-1][:4]

    def seen(self, name: str) -> list[tuple[int, ...]]:
        """The operands of the events of that name since events were asked for last."""
        return [event.operands for event in self.backend.events() if event.name == name]
