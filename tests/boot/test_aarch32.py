"""A VM's programs may be AArch32 where the CPU has that: their exceptions come by vectors of their own."""

from __future__ import annotations

import pytest

from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, booted, start_vm

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
