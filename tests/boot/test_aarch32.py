"""Programs of a VM and of the host may be AArch32 where the CPU has that.

EL0 only: their exceptions come by the vectors for a lower level in AArch64, which the width of EL1 selects (Arm ARM DDI
0487, D1.3, vector offsets).
"""

from __future__ import annotations

import struct

import pytest

from boot.assembly import assemble
from boot.rig import BLOCK, EXITS, PAGE, VM_RAM, booted, start_vm

pytestmark = pytest.mark.qemu
DEVICE = 0x0900_0000
PROGRAM = VM_RAM + PAGE
START = f"""
    ldr     x0, ={PROGRAM:#x}
    msr     elr_el1, x0
    mov     x0, #0x1d0               // User mode, interrupts masked
    msr     spsr_el1, x0
    mov     x1, #{DEVICE:#x}
    eret
    .ltorg
"""
LOAD, STORE, FOREVER = 0xE5910000, 0xE5C10001, 0xEAFFFFFE
"""LDR r0, [r1]; STRB r0, [r1, #1]; B to itself (F5.1)."""


def test_loads_and_stores_of_an_aarch32_program() -> None:
    """They are emulated like others, and the program goes on behind them."""
    code = b"".join(word.to_bytes(4, "little") for word in (LOAD, STORE, LOAD, FOREVER))
    with booted() as rig:
        vm = start_vm(rig, 0, {VM_RAM: assemble(START), PROGRAM: code})
        assert vm.run_on()[:3] == [EXITS["MMIO_READ"], DEVICE, 4]
        assert vm.run_on(reply=0x8765_43A5)[:4] == [EXITS["MMIO_WRITE"], DEVICE + 1, 1, 0xA5]
        assert vm.run_on()[:3] == [EXITS["MMIO_READ"], DEVICE, 4]
        assert vm.run()[0] == EXITS["IRQ"], "an interrupt of the host while it runs"


HOST = """
    stp     x19, x20, [sp, #-32]!
    str     x30, [sp, #16]
    mrs     x19, vbar_el1
    mrs     x20, spsr_el1
    adr     x0, 2f
    msr     vbar_el1, x0
    ldr     x0, ={program:#x}
    msr     elr_el1, x0
    mov     x0, #0x1d0
    msr     spsr_el1, x0
    ldr     x1, ={touched:#x}
    isb
    eret
    .balign 2048
2:  .fill   0x180, 4, 0              // 0x600: a synchronous exception of AArch32 EL0
    mrs     x2, esr_el1
    msr     vbar_el1, x19
    msr     spsr_el1, x20
    ldr     x3, ={seen:#x}
    stp     x0, x2, [x3]
    ldr     x30, [sp, #16]
    ldp     x19, x20, [sp], #32
    ret
    .ltorg
"""
SUPERVISOR_CALL = 0xEF000000
SVC32, ABORT32 = 0x11, 0x24
"""ESR_EL1.EC: SVC of AArch32, data abort of a lower level."""


def test_an_aarch32_program_of_the_host() -> None:
    """Its first touch of a block is the host's like any other; what is not the host's is an external abort."""
    code = b"".join(word.to_bytes(4, "little") for word in (LOAD, SUPERVISOR_CALL))
    with booted() as rig:
        place, program, seen, lent = rig.take(4), rig.take(), rig.take(), rig.take()
        rig.write(program, code)
        rig.ok("vm_create", 0, lent, 1, 0, VM_RAM, 16 << 20)
        untouched = place // BLOCK * BLOCK + 16 * BLOCK
        for touched, expected in ((untouched, SVC32), (lent, ABORT32)):
            text = assemble(HOST.format(program=program, touched=touched, seen=seen))
            rig.write(place, text)
            rig.execute(place)
            loaded, esr = struct.unpack("<2Q", rig.read(seen, 16))
            assert esr >> 26 == expected
            assert loaded & 0xFFFF_FFFF == 0 if expected == SVC32 else esr & 0x3F == 0x10
