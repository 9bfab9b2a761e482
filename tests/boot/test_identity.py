"""Each vCPU has its own number, its VM's own time, and no register that another one has left behind.

Sources: Arm ARM DDI 0487 D11.2 (CNTVOFF_EL2), D19.2 (VMPIDR_EL2, VDISR_EL2); PSCI, Arm DEN 0022.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, Vm, booted, start_vm

ROUNDS = 3
OUT = VM_RAM + 0x10_0000
"""For each vCPU 64 words: for each round MPIDR_EL1, CNTPCT_EL0, CNTVCT_EL0, DISR_EL1 as found."""
DEFERRED = 0x8000_0100
"""What a vCPU writes to DISR_EL1, with its VM's slot and its index in it."""


def program(slot: int) -> str:
    """Of all vCPUs of the VM."""
    return f"""
    ldr     x20, ={OUT:#x}           // vCPU 0 starts here, others 16 bytes on
    mov     x23, xzr
    b       1f
    nop
    mov     x23, #1
    ldr     x20, ={OUT + 512:#x}
1:  cbnz    x23, 2f
    ldr     x0, =0xC4000003          // CPU_ON, which answers an error in a VM of one
    mov     x1, #1
    ldr     x2, ={VM_RAM + 16:#x}
    mov     x3, xzr
    hvc     #0
2:  mrs     x1, mpidr_el1
    isb
    mrs     x2, cntpct_el0
    mrs     x3, cntvct_el0
    mrs     x4, S3_0_C12_C1_1        // DISR_EL1
    stp     x1, x2, [x20], #16
    stp     x3, x4, [x20], #16
    ldr     x5, ={DEFERRED | slot << 4:#x}
    orr     x5, x5, x23
    msr     S3_0_C12_C1_1, x5
    ldr     x0, =0xC6000042
    mov     x1, x23
    mov     x2, xzr
    mov     x3, xzr
    hvc     #0
    b       2b
    .ltorg
    """


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One machine for the whole file."""
    with booted() as rig:
        yield rig


def start(rig: Rig, slot: int, vcpus: int) -> Vm:
    """The VM; its vCPUs can run."""
    vm = start_vm(rig, slot, {VM_RAM: assemble(program(slot)), OUT: b""}, vcpus=vcpus)
    if vcpus > 1:
        assert vm.run()[0] == EXITS["PSCI"]
    return vm


def report(vm: Vm, vcpu: int) -> list[tuple[int, ...]]:
    """What a vCPU has found, round by round: MPIDR, physical and virtual count, DISR."""
    words = struct.unpack("<64Q", vm.memory(OUT + 512 * vcpu, 512))
    return [words[4 * n : 4 * n + 4] for n in range(ROUNDS)]


def round_robin(*turns: tuple[Vm, int]) -> None:
    """ROUNDS times, each vCPU once."""
    for _ in range(ROUNDS):
        for vm, vcpu in turns:
            answer = vm.run(vcpu)
            assert answer[:2] == [EXITS["HOST_CALL"], vcpu]


@pytest.mark.qemu
def test_numbers_time_and_errors(rig: Rig) -> None:
    first = start(rig, 0, vcpus=2)
    time.sleep(0.5)
    second = start(rig, 1, vcpus=1)
    round_robin((first, 0), (first, 1), (second, 0))
    reports = {(vm.slot, vcpu): report(vm, vcpu) for vm, vcpu in ((first, 0), (first, 1), (second, 0))}
    for (_, vcpu), rounds in reports.items():
        assert {line[0] for line in rounds} == {1 << 31 | vcpu}, "MPIDR_EL1"
    for (slot, vcpu), rounds in reports.items():
        assert rounds[0][3] == 0, f"vCPU {vcpu} of VM {slot} finds DISR_EL1 of another"
        assert rounds[1][3] == DEFERRED | slot << 4 | vcpu, f"vCPU {vcpu} of VM {slot} has lost its DISR_EL1"
    second_of_ticks = 62_500_000
    shift = [abs(line[1] - line[2]) for rounds in reports.values() for line in rounds]
    assert max(shift) < second_of_ticks // 10, "CNTPCT_EL0 tells a VM more than its own time"
    counts = {key: [line[2] for line in rounds] for key, rounds in reports.items()}
    assert all(count == sorted(count) for count in counts.values()), "the virtual count of a VM jumps"
    assert abs(counts[0, 0][0] - counts[0, 1][0]) < second_of_ticks // 3, (
        "vCPUs of one VM disagree about the time"
    )
    assert counts[0, 0][0] - counts[1, 0][0] > second_of_ticks // 4, "a VM sees the time of another"
    assert reports[1, 0][0][2] < 2 * second_of_ticks, "a VM's count starts near zero"


def host_number(rig: Rig, result: int) -> int:
    """MPIDR_EL1 as the host reads it."""
    place = rig.take()
    rig.write(place, assemble(f"mrs x0, mpidr_el1\nldr x1, ={result:#x}\nstr x0, [x1]\nret\n.ltorg"))
    rig.execute(place)
    return int(struct.unpack("<Q", rig.read(result, 8))[0])


@pytest.mark.qemu
def test_the_host_keeps_its_number(rig: Rig) -> None:
    result = rig.take()
    before = host_number(rig, result)
    vm = start(rig, 3, vcpus=2)
    assert vm.run(1)[:2] == [EXITS["HOST_CALL"], 1]
    assert report(vm, 1)[0][0] != before, "the vCPU has a number that shows"
    assert host_number(rig, result) == before


@pytest.mark.qemu
def test_a_vcpu_off_and_on_again_starts_afresh(rig: Rig) -> None:
    off = "ldr x0, =0x84000002\n hvc #0\n b ."
    on = f"""
    ldr     x0, =0xC4000003
    mov     x1, #1
    ldr     x2, ={VM_RAM + PAGE:#x}
    mov     x3, #0x77
    hvc     #0
    mov     x4, x0
    ldr     x0, =0xC6000042
    mov     x1, x4
    hvc     #0
    """
    first = assemble(f"1: {on} b 1b\n .ltorg")
    # The second vCPU tells x0 and x19, spoils x19 and turns itself off.
    second = assemble(
        f"mov x1, x0\n mov x2, x19\n mov x19, #0x99\n ldr x0, =0xC6000042\n hvc #0\n {off}\n .ltorg"
    )
    vm = start_vm(rig, 2, {VM_RAM: first, VM_RAM + PAGE: second}, vcpus=2)
    already_on = (1 << 64) - 4
    for _ in range(3):
        assert vm.run(0)[0] == EXITS["PSCI"]
        assert vm.run(0)[:2] == [EXITS["HOST_CALL"], 0]
        assert vm.run(0)[:2] == [EXITS["HOST_CALL"], already_on]
        assert vm.run(1)[:3] == [EXITS["HOST_CALL"], 0x77, 0]
        assert vm.run(1)[:3] == [EXITS["PSCI"], 0x8400_0002, 1]
        bad_state = (1 << 64) - 6
        assert rig.call("vcpu_run", vm.contexts[1])[0] == bad_state
