"""A VM that makes the calls that it is told to make: its program, and how a host drives it through its exits.

Trust label: TOOL. The program is one page, mapped with its content. Whatever the vCPU was doing, an interrupt that the
host lists brings it to `START`; there it asks the host for x0 to x4 by host_call, executes HVC #0 with fillers in x5 to
x17, and reports what came back. A call that the engine lets it repeat (MEM_FAULT, NEEDS_SPLIT) is thereby given up.
Encodings: Arm ARM DDI 0487, C6.2; interrupts: Arm IHI 0069, 12.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bulkhead.conformance.backends.backend import PAGE, REGISTERS
from bulkhead.conformance.backends.host import Next
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.conformance.testing.machine import ABI, encode, filler, find
from bulkhead.errors import CheckFailed
from bulkhead.spec.transaction import EXIT

ASKED = 5
"""x0 to x4 are the host's choice."""
INTERRUPT = 1 << 62 | 1 << 60 | 0xA0 << 48 | 40
"""A list register: INTID 40, pending, group 1, priority 0xA0 (ICH_LR<n>_EL2)."""
REPEATED = frozenset({EXIT["MEM_FAULT"], EXIT["NEEDS_SPLIT"]})
"""Exits after which a VM's call is made again."""
INTERRUPTS_MAX = 20
"""Interrupts of the host during one call of the VM; its watchdog ends each run after a while."""
VECTORS, IRQ_VECTOR, START = 0x800, 0x800 + 0x280, 0x200
"""Offsets in the page: VBAR_EL1, its entry for interrupts at EL1h (D1.3.1.5), and the program proper."""
HVC, WFI, ISB, UNMASK = 0xD4000002, 0xD503207F, 0xD5033FDF, 0xD50342FF
VBAR_EL1, ICC_PMR_EL1, ICC_IGRPEN1_EL1, ICC_EOIR1_EL1 = 0xD518C000, 0xD5184600, 0xD518CCE0, 0xD518CC20
"""MSR of these registers from X0; UNMASK is MSR DAIFCLR, #2."""
READ_ICC_IAR1_EL1 = 0xD538CC00
"""MRS to X0."""
HOST_CALL = ABI.call("host_call").id
KEPT, DIFFERENCE, SCRATCH = 19, 24, 25
"""x19 to x23 hold what was asked for and what came back; x24 gathers what changed in x5 to x17."""


def constant(register: int, value: int) -> list[int]:
    """MOVZ and MOVK."""
    words = [0xD2800000 | (value & 0xFFFF) << 5 | register]
    parts = [(shift, value >> 16 * shift & 0xFFFF) for shift in (1, 2, 3)]
    return words + [0xF2800000 | shift << 21 | part << 5 | register for shift, part in parts if part]


def copy(target: int, source: int) -> int:
    """MOV Xtarget, Xsource."""
    return 0xAA0003E0 | source << 16 | target


def branch(origin: int, target: int) -> int:
    """B from one offset to another."""
    return 0x14000000 | (target - origin) // 4 & 0x3FFFFFF


def host_call(*registers: int) -> list[int]:
    """host_call with the values of up to three registers; the answer is in x1."""
    words = [copy(1 + number, register) for number, register in enumerate(registers)]
    return [*words, *constant(0, HOST_CALL), HVC]


def before_the_call() -> list[int]:
    """From the interrupt to the call itself, which is the last word."""
    words = [READ_ICC_IAR1_EL1, ICC_EOIR1_EL1, ISB, UNMASK]
    for number in range(ASKED):
        words += [*host_call(), copy(KEPT + number, 1)]
    words += [copy(number, KEPT + number) for number in range(ASKED)]
    for number in range(ASKED, REGISTERS):
        words += constant(number, filler(number))
    return [*words, HVC]


def behind_the_call() -> list[int]:
    """What came back: two reports of three words."""
    words = [copy(KEPT + number, number) for number in range(ASKED)]
    words += constant(DIFFERENCE, 0)
    for number in range(ASKED, REGISTERS):
        words += constant(SCRATCH, filler(number))
        words.append(0xCA000000 | number << 16 | SCRATCH << 5 | SCRATCH)  # EOR
        words.append(0xAA000000 | SCRATCH << 16 | DIFFERENCE << 5 | DIFFERENCE)  # ORR
    return [*words, *host_call(KEPT, KEPT + 1, KEPT + 2), *host_call(KEPT + 3, KEPT + 4, DIFFERENCE)]


CALL_AT = START + 4 * (len(before_the_call()) - 1)
"""Offset of the call."""


def program(base: int) -> bytes:
    """The page, to be mapped at IPA `base`, where vCPU 0 is to start."""
    start = [*constant(0, base + VECTORS), VBAR_EL1, *constant(0, 0xFF), ICC_PMR_EL1, *constant(0, 1)]
    start += [ICC_IGRPEN1_EL1, ISB, UNMASK]
    idle = 4 * len(start)
    start += [WFI, branch(idle + 4, idle)]
    body = [*before_the_call(), *behind_the_call()]
    body.append(branch(START + 4 * len(body), idle))
    page = bytearray(PAGE)
    for offset, words in ((0, start), (START, body), (IRQ_VECTOR, [branch(IRQ_VECTOR, START)])):
        page[offset : offset + 4 * len(words)] = struct.pack(f"<{len(words)}I", *words)
    assert 4 * len(start) <= START and START + 4 * len(body) <= VECTORS, "the parts overlap"
    return bytes(page)


@dataclass(frozen=True)
class Made:
    """A VM's call: x0 to x4 afterwards, whether x5 to x17 are as they were, and what the host saw.

    If the VM repeats its call, nothing came back: `registers` is empty.
    """

    registers: tuple[int, ...]
    rest_unchanged: bool
    seen: Next


class Caller:
    """Drives vCPUs that run `program`, through a payload."""

    def __init__(self, backend: PayloadBackend) -> None:
        self.backend = backend

    def call(self, cpu: int, vcpu: int, registers: Sequence[int]) -> Made:
        """The vCPU whose context is at physical `vcpu` executes HVC #0 with x0 to x4 on CPU `cpu`; it is not loaded
        afterwards. CheckFailed if the VM does anything else.
        """
        asked = [(0, INTERRUPT), *((value, 0) for value in registers)]
        last = self._drive(cpu, vcpu, asked)
        if last[1] in REPEATED:
            self._put(cpu)
            return Made((), True, Next("exit", last[1], (last[2], last[3], last[4])))
        seen = Next("resume", 0, (0, 0, 0))
        if last[1] != EXIT["HOST_CALL"] or registers[0] == HOST_CALL:
            seen = Next("exit", last[1], (last[2], last[3], last[4]))
            last = self._drive(cpu, vcpu, [(0, 0)])
        first = last[2:5]
        second = self._drive(cpu, vcpu, [(0, 0)])[2:5]
        self._put(cpu)
        return Made((*first, *second[:2]), second[2] == 0, seen)

    def _drive(self, cpu: int, vcpu: int, turns: list[tuple[int, int]]) -> tuple[int, ...]:
        """Runs with these replies and first list registers, each up to a host_call but for the last: its answer."""
        interrupts = 0
        while turns:
            runs = [run(vcpu, reply, listed) for reply, listed in turns]
            answers = self.backend.calls(cpu, EXIT["HOST_CALL"], runs)
            status, exit_class, *_, lr0 = answers[-1][:6]
            turns = turns[len(answers) :]
            if (status, exit_class) == (0, EXIT["IRQ"]) and interrupts < INTERRUPTS_MAX:
                interrupts += 1  # on from where it was; the reply has been taken
                turns = [(0, lr0 if lr0 >> 62 else 0), *turns]
            elif status != 0 or (turns and exit_class != EXIT["HOST_CALL"]):
                raise CheckFailed(
                    f"the VM does not ask for its registers: {list(map(hex, answers[-1][:6]))}",
                    hint="its page, tables or vCPU are not those of a VM that makes calls",
                )
        return answers[-1]

    def _put(self, cpu: int) -> None:
        status = self.backend.call(cpu, encode(find("vcpu_put"), {}))[0]
        if status != 0:
            raise CheckFailed(f"vcpu_put answers {status:#x}")


def run(vcpu: int, reply: int, listed: int) -> list[int]:
    """x0 to x17 of vcpu_run."""
    return encode(find("vcpu_run"), {"vcpu": vcpu, "reply": reply, "lr0": listed})
