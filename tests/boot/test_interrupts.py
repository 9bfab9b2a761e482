"""Interrupts of VMs: the virtual timer as a hardware-linked list register, list registers of the host, physical
interrupts that end a run, maintenance conditions.

Sources: IHI 0069 chapter 9 (virtual interrupts), Arm ARM DDI 0487 D11 (virtual timer).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, Vm, booted, start_vm

LOG = VM_RAM + 0x1_0000
"""The VM's interrupt log: a count, then the INTIDs in the order of their acknowledgement."""
TIMER = 27
CONTROL_TIMER = 1 | 0xA0 << 8
CONTROL_UNDERFLOW = 2
LIST_STATE = 3 << 62
LIST = 1 << 62 | 1 << 60 | 0x80 << 48
"""Pending, group 1; the INTID goes into the low bits."""

SET_UP = f"""
    b       1f
    .balign 2048
2:  .rept   16
    .balign 128
    mrs     x20, S3_0_C12_C12_0      // ICC_IAR1_EL1
    ldr     x21, [x22]
    add     x21, x21, #1
    str     x20, [x22, x21, lsl #3]
    str     x21, [x22]
    msr     cntv_ctl_el0, xzr        // one shot
    msr     S3_0_C12_C12_1, x20      // ICC_EOIR1_EL1
    isb
    eret
    .endr
    .balign 128
1:  adr     x0, 2b
    msr     vbar_el1, x0
    ldr     x22, ={LOG:#x}
    mov     x0, #0xf0
    msr     S3_0_C4_C6_0, x0         // ICC_PMR_EL1
    mov     x0, #1
    msr     S3_0_C12_C12_7, x0       // ICC_IGRPEN1_EL1
    isb
    msr     daifclr, #2
"""
DONE = """
    ldr     x0, =0xC6000042
    mov     x1, #0xD0
    hvc     #0
    b       .
    .ltorg
"""


def arm(ticks: int) -> str:
    """Starts the virtual timer."""
    return f"""
    isb
    mrs     x0, cntvct_el0
    ldr     x1, ={ticks}
    add     x0, x0, x1
    msr     cntv_cval_el0, x0
    mov     x0, #1
    msr     cntv_ctl_el0, x0
    isb
    """


def wait_for(count: int, how: str) -> str:
    """Until the log holds `count` interrupts; `how` is executed in between."""
    return f"3: {how}\n ldr x0, [x22]\n cmp x0, #{count}\n b.lo 3b\n"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One machine for the whole file."""
    with booted() as rig:
        yield rig


def start(rig: Rig, slot: int, body: str) -> Vm:
    """A VM that runs `body` with its interrupts on, and then says that it is done."""
    code = assemble(SET_UP + body + DONE)
    pages = {VM_RAM + offset: code[offset : offset + PAGE] for offset in range(0, len(code), PAGE)}
    return start_vm(rig, slot, {**pages, LOG: b""})


def log(vm: Vm) -> list[int]:
    """The interrupts that the VM has taken."""
    words = struct.unpack("<512Q", vm.memory(LOG, PAGE))
    return list(words[1 : 1 + words[0]])


def left(answer: list[int]) -> list[int]:
    """The list registers of an exit that still hold an interrupt; the others as zero."""
    return [value if value & LIST_STATE else 0 for value in answer[4:7]]


def run_to_the_end(vm: Vm, control: int) -> list[int]:
    """Runs the VM until it is done; the exit classes on the way."""
    classes: list[int] = []
    for _ in range(1000):
        exit_class, *data = vm.run(control=control)
        if exit_class == EXITS["HOST_CALL"]:
            assert data[0] == 0xD0
            return classes
        classes.append(exit_class)
    raise AssertionError(f"the VM does not get to its end: {classes[-10:]}, interrupts {log(vm)}")


@pytest.mark.qemu
def test_the_timer_interrupts_a_busy_vm(rig: Rig) -> None:
    vm = start(rig, 0, "".join(arm(100_000) + wait_for(n, "nop") for n in (1, 2, 3)))
    classes = run_to_the_end(vm, CONTROL_TIMER)
    assert log(vm) == [TIMER] * 3
    assert set(classes) <= {EXITS["IRQ"]}


@pytest.mark.qemu
def test_the_timer_ends_a_wait(rig: Rig) -> None:
    vm = start(rig, 1, "".join(arm(2_000_000) + wait_for(n, "wfi") for n in (1, 2)))
    classes = run_to_the_end(vm, CONTROL_TIMER)
    assert log(vm) == [TIMER] * 2
    assert EXITS["WFI"] in classes


@pytest.mark.qemu
def test_a_deadline_is_reported(rig: Rig) -> None:
    vm = start(rig, 2, arm(10_000_000_000) + wait_for(1, "wfi"))
    first = vm.run(control=CONTROL_TIMER)
    second = vm.run(control=CONTROL_TIMER)
    assert first[0] == second[0] == EXITS["WFI"]
    assert first[8] == second[8] < 1 << 62


@pytest.mark.qemu
def test_a_disabled_timer_interrupt_waits(rig: Rig) -> None:
    spin = "mov x5, #0x200000\n 4: subs x5, x5, #1\n b.ne 4b\n"
    ask = "ldr x0, =0xC6000042\n mov x1, #0xD1\n hvc #0\n"
    vm = start(rig, 3, arm(1000) + spin + ask + wait_for(1, "nop"))
    while (answer := vm.run(control=0))[0] == EXITS["IRQ"]:
        pass
    assert answer[:2] == [EXITS["HOST_CALL"], 0xD1]
    assert log(vm) == []
    run_to_the_end(vm, CONTROL_TIMER)
    assert log(vm) == [TIMER]


@pytest.mark.qemu
def test_list_registers_reach_the_vm_and_come_back(rig: Rig) -> None:
    vm = start(rig, 4, wait_for(2, "wfi"))
    answer = rig.ok("vcpu_run", vm.contexts[0], 0, LIST | 40, LIST | 41, 0, CONTROL_UNDERFLOW)
    while answer[0] == EXITS["IRQ"]:
        answer = rig.ok("vcpu_run", vm.contexts[0], 0, *left(answer), CONTROL_UNDERFLOW)
    assert answer[0] == EXITS["VGIC"]
    assert answer[7] & 2, "ICH_MISR_EL2.U"
    while answer[:2] != [EXITS["HOST_CALL"], 0xD0]:
        answer = rig.ok("vcpu_run", vm.contexts[0], 0, *left(answer), 0)
    assert log(vm) == [40, 41]
    assert left(answer) == [0, 0, 0]


@pytest.mark.qemu
def test_a_physical_interrupt_ends_a_run(rig: Rig) -> None:
    vm = start(rig, 5, wait_for(1, "nop"))
    assert vm.run()[0] == EXITS["IRQ"], "the payload's watchdog"
    assert vm.run()[0] == EXITS["IRQ"]
    assert log(vm) == []


@pytest.mark.qemu
def test_a_vm_with_its_timer_moves_to_another_cpu(rig: Rig) -> None:
    hop = "ldr x0, =0xC6000042\n mov x1, #0xD2\n hvc #0\n"
    vm = start(rig, 6, arm(10_000) + wait_for(1, "nop") + hop + arm(10_000) + wait_for(2, "nop"))
    while (answer := vm.run(control=CONTROL_TIMER))[0] == EXITS["IRQ"]:
        pass
    assert answer[:2] == [EXITS["HOST_CALL"], 0xD2]
    rig.link.call("cpu_on", {"cpu": 1})
    busy = rig.call("vcpu_run", vm.contexts[0], cpu=1)
    assert busy[0] == (1 << 64) - 5, "the vCPU is loaded on CPU 0"
    rig.ok("vcpu_put")
    while (answer := vm.run(control=CONTROL_TIMER, cpu=1))[0] == EXITS["IRQ"]:
        pass
    assert answer[:2] == [EXITS["HOST_CALL"], 0xD0]
    assert log(vm) == [TIMER] * 2


@pytest.mark.qemu
def test_the_running_priority_is_the_vms_own(rig: Rig) -> None:
    running = "mrs x1, S3_0_C12_C11_3\n ldr x0, =0xC6000042\n hvc #0\n"  # ICC_RPR_EL1
    enable = "mov x0, #0xf0\n msr S3_0_C4_C6_0, x0\n mov x0, #1\n msr S3_0_C12_C12_7, x0\n isb\n"
    handling = assemble(f"{enable} mrs x20, S3_0_C12_C12_0\n isb\n 1: {running} b 1b\n .ltorg")
    idle = assemble(f"{enable} 1: {running} b 1b\n .ltorg")
    first, second = start_vm(rig, 7, {VM_RAM: handling}), start_vm(rig, 8, {VM_RAM: idle})
    answer = rig.ok("vcpu_run", first.contexts[0], 0, LIST | 40)
    for _ in range(2):
        assert answer[:2] == [EXITS["HOST_CALL"], 0x80]
        assert second.run()[:2] == [EXITS["HOST_CALL"], 0xFF]
        answer = rig.ok("vcpu_run", first.contexts[0], 0, answer[4])


@pytest.mark.qemu
def test_a_pending_timer_interrupt_survives_another_vm(rig: Rig) -> None:
    expire = "4: mrs x0, cntv_ctl_el0\n tbz x0, #2, 4b\n mov x5, #0x1000\n 5: subs x5, x5, #1\n b.ne 5b\n"
    tell = "ldr x0, =0xC6000042\n mov x1, #0xD4\n hvc #0\n"
    masked = f"msr daifset, #2\n {arm(1000)} {expire} {tell} msr daifclr, #2\n"
    vm = start(rig, 9, masked + wait_for(1, "nop"))
    other = start(rig, 10, arm(1000) + wait_for(1, "nop"))
    while (answer := vm.run(control=CONTROL_TIMER))[0] == EXITS["IRQ"]:
        pass
    assert answer[:2] == [EXITS["HOST_CALL"], 0xD4]
    run_to_the_end(other, CONTROL_TIMER)
    assert log(other) == [TIMER], "the interrupt of one VM keeps that of the other from being taken"
    assert run_to_the_end(vm, CONTROL_TIMER) in ([], [EXITS["IRQ"]])
    assert log(vm) == [TIMER]


SGI = 5
GICR_SGI = 0x080B_0000
GICD = 0x0800_0000


def registers(*writes: tuple[int, int]) -> str:
    """32-bit stores to device registers."""
    return "".join(
        f"ldr x1, ={address:#x}\n ldr w2, ={value:#x}\n str w2, [x1]\n" for address, value in writes
    )


RAISE = f"""
    msr     S3_0_C12_C12_7, xzr      // ICC_IGRPEN1_EL1: nothing else interrupts
    mov     x0, #1
    msr     S3_0_C12_C12_6, x0       // ICC_IGRPEN0_EL1
    isb
    {
    registers(
        (GICD, 0x13),
        (GICR_SGI + 0x80, ~(1 << SGI) & 0xFFFF_FFFF),
        (GICR_SGI + 0x100, 1 << SGI),
        (GICR_SGI + 0x200, 1 << SGI),
    )
}
    dsb     sy
    ret
    .ltorg
"""
"""The host's SGI 5 is of group 0, which is signalled as FIQ (IHI 0069, 4.6.2), and pending."""
ACKNOWLEDGE = f"""
    mrs     x0, S3_0_C12_C8_0        // ICC_IAR0_EL1
    msr     S3_0_C12_C8_1, x0        // ICC_EOIR0_EL1
    msr     S3_0_C12_C12_6, xzr
    {registers((GICR_SGI + 0x80, 0xFFFF_FFFF))}
    mov     x1, #1
    msr     S3_0_C12_C12_7, x1
    isb
    ldr     x2, ={{place:#x}}
    str     x0, [x2]
    ret
    .ltorg
"""


@pytest.mark.qemu
def test_a_physical_interrupt_of_group_0_ends_a_run(rig: Rig) -> None:
    """It comes as FIQ, and is the host's like any other."""
    vm = start(rig, 11, wait_for(1, "nop"))
    program, answer = rig.take(), rig.take()
    rig.write(program, assemble(RAISE))
    rig.execute(program)
    assert vm.run()[0] == EXITS["IRQ"]
    assert vm.run()[0] == EXITS["IRQ"], "still pending"
    rig.write(program, assemble(ACKNOWLEDGE.format(place=answer)))
    rig.execute(program)
    assert struct.unpack("<Q", rig.read(answer, 8)) == (SGI,)
    assert log(vm) == []
