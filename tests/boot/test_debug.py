"""Self-hosted debug: a VM's breakpoints, watchpoints and single steps stop that vCPU, and nobody else.

Sources: Arm ARM DDI 0487 D2.8 (breakpoints), D2.10 (watchpoints), D2.12 (software step), D24.3 (debug registers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, Vm, booted, start_vm
from bulkhead.registers.table import MODELS

LOG, DATA, RESULTS = VM_RAM + 0x10_0000, VM_RAM + 0x10_1000, VM_RAM + 0x10_2000
HERE = VM_RAM + 0x8000
"""Where VMs have the same code."""
DEVICE = 0x0C0D_E000
BREAKPOINT, STEP, WATCHPOINT = 0x31, 0x33, 0x35
"""Exception classes of debug exceptions from the same EL."""
AT_EL1 = 1 | 1 << 1 | 0xF << 5
"""DBGBCR: enabled, EL1 (PMC), whole instruction."""
ACCESS_AT_EL1 = 1 | 1 << 1 | 3 << 3 | 0xFF << 5
"""DBGWCR: enabled, EL1 (PAC), loads and stores, 8 bytes."""
PRIVILEGED = 1 << 13 | 3 << 14
"""HMC and SSC: EL2, whatever the security state."""
EXIT = "ldr x0, =0xC6000042\n mov x2, xzr\n mov x3, xzr\n hvc #0"
TAKES_EXCEPTIONS = f"""
    b       1f
    .balign 2048
2:  .rept   16                       // appends class, ELR, FAR to the log at x20, and goes on behind the instruction
    .balign 128
    mrs     x21, esr_el1
    lsr     x21, x21, #26
    mrs     x22, elr_el1
    mrs     x23, far_el1
    stp     x21, x22, [x20], #16
    str     x23, [x20], #8
    b       9f
    .endr
    .balign 128
9:  cmp     x21, #{STEP}
    b.eq    3f
    add     x22, x22, #4
    msr     elr_el1, x22
    eret
3:  subs    x24, x24, #1             // as many steps as x24 says, then on without
    b.eq    4f
    mrs     x22, spsr_el1
    orr     x22, x22, #1 << 21
    msr     spsr_el1, x22
    eret
4:  mrs     x22, mdscr_el1
    bic     x22, x22, #1
    msr     mdscr_el1, x22
    eret
1:  adr     x0, 2b
    msr     vbar_el1, x0
"""
OPENS = """
    ldr     x0, =0xA000              // KDE, MDE
    msr     mdscr_el1, x0
    msr     daifclr, #8
    isb
"""


@pytest.fixture(scope="module", params=MODELS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A machine for each CPU model."""
    with booted(cpu_model=request.param) as rig:
        rig.link.call("cpu_on", {"cpu": 1})
        yield rig


def start(rig: Rig, slot: int, body: str, vcpus: int = 1, here: str = "ret") -> Vm:
    """A VM that takes exceptions, executes `body` and leaves for ever; `here` is code at HERE."""
    code = assemble(
        f"ldr x20, ={LOG:#x}\n{TAKES_EXCEPTIONS}\n{body}\nmov x1, #0x600D\n{EXIT}\n8: b 8b\n.ltorg"
    )
    pages = {VM_RAM + offset: code[offset : offset + PAGE] for offset in range(0, len(code), PAGE)}
    return start_vm(
        rig, slot, {**pages, HERE: assemble(here), LOG: b"", DATA: b"", RESULTS: b""}, vcpus=vcpus
    )


def words(vm: Vm, address: int, count: int) -> list[int]:
    """Memory of the VM."""
    return list(struct.unpack(f"<{count}Q", vm.memory(address, 8 * count)))


def log(vm: Vm) -> list[tuple[int, int, int]]:
    """Exceptions that the VM took: class, ELR, FAR."""
    lines = words(vm, LOG, 96)
    return [(lines[n], lines[n + 1], lines[n + 2]) for n in range(0, 96, 3) if lines[n : n + 3] != [0, 0, 0]]


def finish(vm: Vm, cpu: int = 0) -> None:
    """Runs vCPU 0 to the end of its program."""
    answer = vm.run_on(cpu=cpu)
    assert answer[:2] == [EXITS["HOST_CALL"], 0x600D], answer


BREAKPOINTS_AND_WATCHPOINTS = f"""
    ldr     x10, ={RESULTS:#x}
    ldr     x11, ={DATA:#x}
    adr     x12, 5f
    adr     x13, 6f
    stp     x12, x13, [x10], #16
    mrs     x0, id_aa64dfr0_el1
    str     x0, [x10], #8
    ldr     x0, ={AT_EL1 | PRIVILEGED:#x}
    msr     dbgbvr0_el1, x12
    msr     dbgbcr0_el1, x0
    msr     dbgbvr1_el1, x13
    msr     dbgbcr1_el1, x0
    ldr     x0, ={ACCESS_AT_EL1 | PRIVILEGED:#x}
    add     x1, x11, #0x40
    msr     dbgwvr0_el1, x1
    msr     dbgwcr0_el1, x0
    add     x1, x11, #0x80
    msr     dbgwvr1_el1, x1
    msr     dbgwcr1_el1, x0
    {OPENS}
    mov     x1, #1
    {EXIT}                           // away, and back
5:  nop
    ldr     x0, [x11, #0x38]
    ldr     x0, [x11, #0x40]
    str     x0, [x11, #0x48]
6:  nop
    strb    w0, [x11, #0x84]
    mrs     x0, dbgbcr0_el1
    mrs     x1, dbgwcr1_el1
    stp     x0, x1, [x10], #16
    mrs     x0, dbgbvr1_el1
    mrs     x1, mdscr_el1
    stp     x0, x1, [x10], #16
"""


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", [0, 1])
def test_two_breakpoints_and_two_watchpoints(rig: Rig, cpu: int) -> None:
    """They are set on CPU 0 and hit on `cpu`, while another VM sets and hits its own on the CPU in between."""
    vm = start(rig, 10 + cpu, BREAKPOINTS_AND_WATCHPOINTS)
    idle = start(rig, 20 + cpu, f"ldr x11, ={DATA:#x}\n{OPENS}\nldr x0, [x11, #0x40]\nstr x0, [x11, #0x80]")
    other = start(rig, 30 + cpu, "nop\nnop\n" + BREAKPOINTS_AND_WATCHPOINTS.replace("#0x40", "#0x20"))
    assert vm.run_on()[:2] == [EXITS["HOST_CALL"], 1]
    finish(idle)  # another VM takes the CPU and its debug registers in between
    assert log(idle) == []
    assert other.run_on()[:2] == [EXITS["HOST_CALL"], 1]
    finish(other)
    breakpoints = words(other, RESULTS, 2)
    assert [line[1] for line in log(other) if line[0] == BREAKPOINT] == breakpoints != words(vm, RESULTS, 2)
    assert [line[2] for line in log(other) if line[0] == WATCHPOINT] == [DATA + 0x20, DATA + 0x84]
    finish(vm, cpu)
    first, second, identity, bcr, wcr, bvr, control = words(vm, RESULTS, 7)
    assert identity & 0xF == 6
    assert identity >> 12 & 0xF >= 1, "two breakpoints"
    assert identity >> 20 & 0xF >= 1, "two watchpoints"
    assert [line[:2] for line in log(vm) if line[0] == BREAKPOINT] == [
        (BREAKPOINT, first),
        (BREAKPOINT, second),
    ]
    assert [line[2] for line in log(vm) if line[0] == WATCHPOINT] == [DATA + 0x40, DATA + 0x84]
    assert len(log(vm)) == 4
    assert (bcr, wcr) == (AT_EL1, ACCESS_AT_EL1), "HMC and SSC are not a VM's to set"
    assert (bvr, control) == (second, 0xA000)


@pytest.mark.qemu
def test_steps_cross_the_instructions_that_exit_or_are_emulated(rig: Rig) -> None:
    body = f"""
    ldr     x10, ={RESULTS:#x}
    ldr     x5, ={DEVICE:#x}
    mov     x24, #9
    adr     x0, 5f
    str     x0, [x10]
    msr     elr_el1, x0
    mov     x0, #0x5                 // EL1h, nothing masked
    orr     x0, x0, #1 << 21         // SS
    orr     x0, x0, #0xC0            // but interrupts
    msr     spsr_el1, x0
    ldr     x0, =0xA001
    msr     mdscr_el1, x0
    isb
    eret
5:  nop
    ldr     w1, [x5]
    nop
    str     w1, [x5]
    mrs     x1, id_aa64pfr0_el1
    mrs     x1, dbgbvr0_el1
    mov     w0, #0x80000000          // SMCCC_VERSION
    hvc     #0
    nop
    nop
    nop
    """
    vm = start(rig, 2, body)
    ways = [vm.run_on()[0] for _ in range(2)]
    assert ways == [EXITS["MMIO_READ"], EXITS["MMIO_WRITE"]]
    finish(vm)
    (start_address,) = words(vm, RESULTS, 1)
    assert [line[:2] for line in log(vm)] == [(STEP, start_address + 4 * n) for n in range(1, 10)]


LINKED, CONTEXT = 1 << 20, 3 << 20
"""DBGBCR BT: address and linked breakpoint, linked CONTEXTIDR_EL1."""
LAST = 5
"""The last breakpoint of QEMU's CPUs, which is one of those that match a context."""


@pytest.mark.qemu
def test_a_breakpoint_of_one_context(rig: Rig) -> None:
    body = f"""
    ldr     x12, ={HERE:#x}
    msr     dbgbvr0_el1, x12
    ldr     x0, ={AT_EL1 | LINKED | LAST << 16:#x}
    msr     dbgbcr0_el1, x0
    mov     x0, #0x77
    msr     dbgbvr{LAST}_el1, x0
    ldr     x0, ={AT_EL1 | CONTEXT:#x}
    msr     dbgbcr{LAST}_el1, x0
    {OPENS}
    mov     x13, #0x76
9:  msr     contextidr_el1, x13
    isb
    blr     x12
    add     x13, x13, #1
    cmp     x13, #0x79
    b.ne    9b
    """
    vm = start(rig, 5, body, here="nop\nret")
    finish(vm)
    assert [line[:2] for line in log(vm)] == [(BREAKPOINT, HERE)], "once of three times"


@dataclass(frozen=True)
class HostProgram:
    """Code of the host at `watched` that reads `data`; `run` tells how many exceptions it took, and the last class."""

    rig: Rig
    place: int
    watched: int
    data: int
    result: int

    @classmethod
    def put(cls, rig: Rig) -> HostProgram:
        """Into host RAM."""
        watched, data, result, area = rig.take(), rig.take(), rig.take(), rig.take(3)
        rig.write(watched, assemble("nop\nldr x1, [x0]\nret"))
        place = area + -area % 2048
        program = f"""
        b       1f
        .balign 2048
    2:  .rept   16
        .balign 128
        mrs     x10, esr_el1
        lsr     x14, x10, #26
        add     x15, x15, #1
        mrs     x12, elr_el1
        add     x12, x12, #4
        msr     elr_el1, x12
        eret
        .endr
        .balign 128
    1:  mov     x16, x30
        mrs     x13, vbar_el1
        mrs     x17, daif
        adr     x0, 2b
        msr     vbar_el1, x0
        isb
        mov     x14, xzr
        mov     x15, xzr
        msr     daifclr, #8
        ldr     x0, ={data:#x}
        ldr     x1, ={watched:#x}
        blr     x1
        ldr     x0, ={result:#x}
        stp     x15, x14, [x0]
        msr     daif, x17
        msr     vbar_el1, x13
        isb
        ret     x16
        .ltorg
        """
        rig.write(place, assemble(program))
        return cls(rig, place, watched, data, result)

    def run(self) -> list[int]:
        """Exceptions, and the class of the last one."""
        self.rig.execute(self.place)
        return list(struct.unpack("<2Q", self.rig.read(self.result, 16)))


@pytest.mark.qemu
def test_nobody_else_is_stopped(rig: Rig) -> None:
    """A VM with breakpoints on code of its sibling vCPU, of another VM, and of the host."""
    host = HostProgram.put(rig)
    body = f"""
    ldr     x0, ={HERE:#x}
    msr     dbgbvr0_el1, x0
    ldr     x0, ={host.watched:#x}
    msr     dbgbvr1_el1, x0
    ldr     x0, ={AT_EL1 | PRIVILEGED:#x}
    msr     dbgbcr0_el1, x0
    msr     dbgbcr1_el1, x0
    ldr     x0, ={host.data:#x}
    msr     dbgwvr0_el1, x0
    ldr     x0, ={ACCESS_AT_EL1 | PRIVILEGED:#x}
    msr     dbgwcr0_el1, x0
    {OPENS}
    ldr     x0, =0xC4000003          // CPU_ON
    mov     x1, #1
    ldr     x2, ={HERE:#x}
    mov     x3, xzr
    hvc     #0
    mov     x1, #1
    {EXIT}
    ldr     x0, ={HERE:#x}
    blr     x0
    """
    # A vCPU that is turned on comes here with x30 zero.
    here = (
        f"0: nop\ncbz x30, 1f\nret\n1: {OPENS}\nadr x30, 2f\nb 0b\n2: mov x1, #0x77\n{EXIT}\n3: b 3b\n.ltorg"
    )
    one = start(rig, 3, body, vcpus=2, here=here)
    other = start(rig, 4, f"{OPENS}\nldr x0, ={HERE:#x}\nblr x0", here=here)
    assert one.run_on()[0] == EXITS["PSCI"]
    assert one.run_on()[:2] == [EXITS["HOST_CALL"], 1]
    assert host.run() == [0, 0], "breakpoints of the VM stop the host"
    assert one.run_on(1)[:2] == [EXITS["HOST_CALL"], 0x77]
    finish(other)
    assert log(other) == []
    finish(one)
    assert [line[:2] for line in log(one)] == [(BREAKPOINT, HERE)], "its own breakpoint, and no other"
