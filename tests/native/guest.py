"""Guests for tests: A64 machine code built word by word, and a driver that runs a vCPU from exit to exit.

Encodings: Arm ARM DDI 0487, C6.2. A guest starts at the first byte of its RAM at EL1h with the MMU off.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bulkhead.conformance import Machine, Vm
from bulkhead.conformance.testing.machine import ABI

RAM = 0x4000_0000
DEVICE = 0x0900_0000
"""An IPA outside RAM: accesses to it are MMIO exits."""
VECTORS = 0x800
"""Offset of the exception vectors from the start of RAM."""

WFI = 0xD503207F
HVC = 0xD4000002
SMC = 0xD4000003
ISB = 0xD5033FDF
FOREVER = 0x14000000
"""B to itself."""

LOADS = {
    "ldrb w": (0x39400000, 1, 0), "ldrh w": (0x79400000, 2, 0), "ldr w": (0xB9400000, 4, 0),
    "ldr x": (0xF9400000, 8, 0), "ldrsb w": (0x39C00000, 1, 32), "ldrsb x": (0x39800000, 1, 64),
    "ldrsh w": (0x79C00000, 2, 32), "ldrsh x": (0x79800000, 2, 64), "ldrsw x": (0xB9800000, 4, 64),
}  # fmt: skip
"""Load (unsigned offset) → encoding, bytes, width that the sign is extended to (0: zeroes)."""
STORES = {
    "strb": (0x39000000, 1),
    "strh": (0x79000000, 2),
    "str w": (0xB9000000, 4),
    "str x": (0xF9000000, 8),
}

SYSTEM = {
    "VBAR_EL1": (3, 0, 12, 0, 0), "ESR_EL1": (3, 0, 5, 2, 0), "ELR_EL1": (3, 0, 4, 0, 1),
    "FAR_EL1": (3, 0, 6, 0, 0), "MPIDR_EL1": (3, 0, 0, 0, 5), "CurrentEL": (3, 0, 4, 2, 2),
    "TPIDR_EL1": (3, 0, 13, 0, 4), "SCTLR_EL1": (3, 0, 1, 0, 0), "ID_AA64PFR0_EL1": (3, 0, 0, 4, 0),
    "ID_AA64DFR0_EL1": (3, 0, 0, 5, 0), "ID_AA64MMFR0_EL1": (3, 0, 0, 7, 0), "PMCR_EL0": (3, 3, 9, 12, 0),
    "CNTP_CTL_EL0": (3, 3, 14, 2, 1), "CNTP_CVAL_EL0": (3, 3, 14, 2, 2), "CNTV_CTL_EL0": (3, 3, 14, 3, 1),
    "CNTV_TVAL_EL0": (3, 3, 14, 3, 0), "CNTVCT_EL0": (3, 3, 14, 0, 2), "ICC_PMR_EL1": (3, 0, 4, 6, 0),
    "ICC_IGRPEN1_EL1": (3, 0, 12, 12, 7), "ICC_IAR1_EL1": (3, 0, 12, 12, 0), "ICC_EOIR1_EL1": (3, 0, 12, 12, 1),
    "ICC_SGI1R_EL1": (3, 0, 12, 11, 5), "ICC_SRE_EL1": (3, 0, 12, 12, 5), "OSLSR_EL1": (2, 0, 1, 1, 4),
    "MDSCR_EL1": (2, 0, 0, 2, 2), "LORC_EL1": (3, 0, 10, 4, 3), "SP_EL1": (3, 4, 4, 1, 0), "HCR_EL2": (3, 4, 1, 1, 0),
    "REVIDR_EL1": (3, 0, 0, 0, 6), "AIDR_EL1": (3, 1, 0, 0, 7),
}  # fmt: skip
"""op0, op1, CRn, CRm, op2 of system registers (D19)."""


def code(*words: int) -> bytes:
    """Instructions as bytes."""
    return struct.pack(f"<{len(words)}I", *words)


def branch(words: int) -> int:
    """B to `words` instructions further on (backwards if negative)."""
    return FOREVER | words & 0x3FFFFFF


def move(register: int, value: int) -> list[int]:
    """The 64-bit constant `value` into X`register`."""
    parts = [(shift, value >> 16 * shift & 0xFFFF) for shift in range(4)]
    words = [0xD2800000 | parts[0][1] << 5 | register]
    return words + [0xF2800000 | shift << 21 | part << 5 | register for shift, part in parts[1:] if part]


def access(encoding: int, register: int, base: int = 28) -> int:
    """A load or store of `register` at the address in X`base`."""
    return encoding | base << 5 | register


def _system(encoding: int, name: str, register: int) -> int:
    op0, op1, crn, crm, op2 = SYSTEM[name]
    return encoding | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | register


def mrs(register: int, name: str) -> int:
    """X`register` = system register."""
    return _system(0xD5200000, name, register)


def msr(name: str, register: int) -> int:
    """System register = X`register`."""
    return _system(0xD5000000, name, register)


def report(*registers: int) -> list[int]:
    """Stores registers to the device, one MMIO_WRITE exit each; spoils x28."""
    return move(28, DEVICE) + [access(STORES["str x"][0], register) for register in registers]


def hvc(function: int, *arguments: int) -> list[int]:
    """HVC #0 with x0 = function and arguments from x1 on."""
    words = [word for register, value in enumerate((function, *arguments)) for word in move(register, value)]
    return [*words, HVC]


def with_vectors(program: list[int], handler: list[int], offset: int = 0x200) -> bytes:
    """A page: `program` after VBAR_EL1 is set, and `handler` at `offset` of the vectors (0x200: synchronous)."""
    start = code(*move(27, RAM + VECTORS), msr("VBAR_EL1", 27), ISB, *program, FOREVER)
    assert len(start) <= VECTORS, "the program reaches into its vectors"
    return start.ljust(VECTORS + offset, b"\0") + code(*handler, FOREVER)


GIC_ON = [*move(1, 0xFF), msr("ICC_PMR_EL1", 1), *move(1, 1), msr("ICC_IGRPEN1_EL1", 1), ISB]
"""Interrupts of group 1 can be acknowledged; spoils x1."""
WAIT = code(WFI, branch(-1))
"""WFI for ever."""


@dataclass(frozen=True)
class Exit:
    """An exit of a vCPU: class by name, the data of its class, and what all exits carry."""

    name: str
    data: tuple[int, ...]
    lists: tuple[int, int, int]
    misr: int
    deadline: int


def still_used(value: int) -> int:
    """A list register as it goes back to the engine: zero once its interrupt is neither pending nor active."""
    return value if value >> 62 else 0


class Guest:
    """An ACTIVE VM that runs a program, driven on CPU `cpu`."""

    def __init__(
        self, machine: Machine, program: bytes, vm: Vm | None = None, cpu: int = 0, context: int = 0
    ) -> None:
        """Builds the VM (slot 0, one vCPU) unless one is given that is still BUILDING."""
        self.machine, self.cpu = machine, cpu
        self.vm = vm or Vm(machine)
        self.vm.page(RAM, content=program)
        for index in range(self.vm.vcpus):
            self.vm.vcpu(index)
        self.vm.entry(RAM, context).activate()

    @classmethod
    def of(cls, vm: Vm, cpu: int = 0) -> Guest:
        """The driver of a VM that is ACTIVE already."""
        guest = cls.__new__(cls)
        guest.machine, guest.vm, guest.cpu = vm.machine, vm, cpu
        return guest

    def run(self, reply: int = 0, *, vcpu: int = 0, **arguments: int) -> Exit:
        """Runs until an exit other than IRQ, which is this side's own."""
        for _ in range(100):
            frame = self.vm.contexts[vcpu]
            results = self.machine.ok("vcpu_run", cpu=self.cpu, vcpu=frame, reply=reply, **arguments).results
            line = ABI.exit_class(results["class"])
            lists = (still_used(results["lr0"]), still_used(results["lr1"]), still_used(results["lr2"]))
            if line.name != "IRQ":
                data = tuple(results[f"data{n}"] for n in range(len(line.data)))
                return Exit(line.name, data, lists, results["misr"], results["deadline"])
            arguments |= {"lr0": lists[0], "lr1": lists[1], "lr2": lists[2]}
        raise AssertionError("the vCPU only comes back for interrupts")

    def reports(self, count: int, **arguments: int) -> list[int]:
        """The next `count` values that the guest reports."""
        values = []
        for _ in range(count):
            exit_ = self.run(**arguments)
            assert (exit_.name, exit_.data[:2]) == ("MMIO_WRITE", (DEVICE, 8)), exit_
            values.append(exit_.data[2])
        return values
