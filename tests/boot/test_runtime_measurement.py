"""The runtime measurement of a VM whose vCPUs extend it at once: every extension counts, in some order."""

from __future__ import annotations

import hashlib
import struct

import pytest

from boot import machines
from boot.assembly import assemble
from boot.rig import EXITS, IDS, PAGE, VM_RAM, Vm, start_vm
from boot.test_end import RUN, turn_on
from bulkhead import abi
from bulkhead.machine.qemu import QemuConfig

pytestmark = pytest.mark.qemu

COUNT = 8192
# Extensions after which the vCPUs wait for each other: many, so that even one core interrupts them within one.
TOGETHER = 4096
ENTRY = 32  # bytes of an answer
PAGES = -(-COUNT * ENTRY // PAGE)
RESULTS = VM_RAM + PAGE
FLAG = VM_RAM + (1 + 2 * PAGES) * PAGE
CPU_ON = next(line.id for line in abi.load().standards if line.name == "PSCI_CPU_ON")
# Both vCPUs come to 1 with their number in x20, wait for each other again and again, extend, and keep the answers.
PROGRAM = f"""
    mov x20, xzr
    ldr x0, ={CPU_ON:#x}
    mov x1, #1
    adr x2, 5f
    mov x3, xzr
    hvc #0
    b   1f
5:  mov x20, #1
1:  ldr x9, ={FLAG:#x}
    eor x22, x20, #1
    ldr x19, ={RESULTS:#x}
    mov x10, #{PAGES * PAGE}
    madd x19, x20, x10, x19
    mov x21, xzr
    mov x23, #{COUNT}
2:  tst x21, #{TOGETHER - 1}
    b.ne 4f
    add x10, x21, #1
    str x10, [x9, x20, lsl #3]
3:  ldr x11, [x9, x22, lsl #3]
    cmp x11, x10
    b.lo 3b
4:  ldr x0, ={IDS["extend"]:#x}
    mov x1, x20
    mov x2, x21
    mov x3, xzr
    mov x4, xzr
    hvc #0
    stp x1, x2, [x19], #16
    stp x3, x4, [x19], #16
    add x21, x21, #1
    cmp x21, x23
    b.ne 2b
    add x10, x23, #1
    str x10, [x9, x20, lsl #3]
6:  wfi
    b   6b
"""


def answers(vm: Vm, vcpu: int) -> list[bytes]:
    """What each extension of a vCPU has answered."""
    first = RESULTS + vcpu * PAGES * PAGE
    data = b"".join(vm.memory(first + page * PAGE, PAGE) for page in range(PAGES))
    return [data[index * ENTRY : (index + 1) * ENTRY] for index in range(COUNT)]


def test_extensions_at_once_come_one_after_another() -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=2)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        pages = {VM_RAM: assemble(PROGRAM)} | {RESULTS + page * PAGE: b"" for page in range(2 * PAGES + 1)}
        vm = start_vm(booted, 0, pages, vcpus=2)
        assert vm.run()[0] == EXITS["PSCI"]
        turn_on(booted, 1, RUN, vm.contexts[1])
        while vm.memory(FLAG, 16) != struct.pack("<2Q", COUNT + 1, COUNT + 1):
            assert vm.run()[0] in (EXITS["IRQ"], EXITS["WFI"])
        left = [answers(vm, vcpu) for vcpu in range(2)]
    reached, done = bytes(ENTRY), [0, 0]
    while sum(done) < 2 * COUNT:
        following = {
            vcpu: hashlib.sha256(reached + struct.pack("<4Q", vcpu, done[vcpu], 0, 0)).digest()
            for vcpu in range(2)
            if done[vcpu] < COUNT
        }
        vcpu = next((one for one, digest in following.items() if left[one][done[one]] == digest), None)
        assert vcpu is not None, (
            f"after {done} extensions of the two vCPUs nobody has gone on from there: one is lost"
        )
        reached, done[vcpu] = following[vcpu], done[vcpu] + 1
