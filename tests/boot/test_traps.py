"""What neither a VM nor the host may use is UNDEFINED for it, on every CPU model that QEMU offers and the engine knows.

Each domain executes the instructions one by one under its own exception vector; a table of exception classes comes
back (0: executed). Sources: Arm ARM DDI 0487 D24.2 (HCR_EL2, MDCR_EL2, CPTR_EL2, CNTHCTL_EL2), engine/docs/trust.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pytest

from boot.assembly import assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, booted, start_vm

MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
EXECUTED, UNDEFINED = 0, 1
NOTHING = 0xFF
"""What a table holds where the program never came."""
TABLE = VM_RAM + 0x10_0000

FOR_NOBODY = {
    "PMCR_EL0": "mrs x0, S3_3_C9_C12_0",
    "PMCCNTR_EL0": "mrs x0, S3_3_C9_C13_0",
    "PMSCR_EL1": "mrs x0, S3_0_C9_C9_0",
    "TRBLIMITR_EL1": "mrs x0, S3_0_C9_C11_0",
    "TRFCR_EL1": "mrs x0, S3_0_C1_C2_1",
    "AMCR_EL0": "mrs x0, S3_3_C13_C2_0",
    "ERRSELR_EL1": "mrs x0, S3_0_C5_C3_1",
    "LORC_EL1": "mrs x0, S3_0_C10_C4_3",
    "IMPLEMENTATION DEFINED": "mrs x0, S3_0_C15_C0_0",
    "APIAKEYLO_EL1": "mrs x0, S3_0_C2_C1_0",
    "GCR_EL1": "mrs x0, S3_0_C1_C0_6",
    "SCXTNUM_EL1": "mrs x0, S3_0_C13_C0_7",
    "ZCR_EL1": "mrs x0, S3_0_C1_C2_0",
    "SMCR_EL1": "mrs x0, S3_0_C1_C2_6",
    "TCR2_EL1": "mrs x0, S3_0_C2_C0_3",
    "HCR_EL2": "mrs x0, hcr_el2",
    "ICH_HCR_EL2": "mrs x0, S3_4_C12_C11_0",
    "SVE": ".inst 0x04bf5000",  # rdvl x0, #0
}
FOR_VMS_NOT = FOR_NOBODY | {
    "CNTP_CTL_EL0": "mrs x0, cntp_ctl_el0",
    "CNTP_CVAL_EL0": "msr cntp_cval_el0, xzr",
    "CNTP_TVAL_EL0": "msr cntp_tval_el0, xzr",
}
FOR_THE_HOST_NOT = FOR_NOBODY | {
    "SCTLR_EL1": "msr sctlr_el1, xzr",
    "TCR_EL1": "msr tcr_el1, xzr",
    "TTBR0_EL1": "mrs x0, ttbr0_el1",
    "TTBR1_EL1": "mrs x0, ttbr1_el1",
    "MAIR_EL1": "mrs x0, mair_el1",
    "AMAIR_EL1": "mrs x0, amair_el1",
    "CONTEXTIDR_EL1": "mrs x0, contextidr_el1",
    "AFSR0_EL1": "mrs x0, afsr0_el1",
    "CSSELR_EL1": "mrs x0, csselr_el1",
    "ACTLR_EL1": "mrs x0, actlr_el1",
    "MDSCR_EL1": "mrs x0, mdscr_el1",
    "DBGBVR0_EL1": "msr dbgbvr0_el1, xzr",
    "DC CISW": "dc cisw, xzr",
    "FP": "fmov x0, d0",
}
PERMITTED = {
    "CNTVCT_EL0": "mrs x0, cntvct_el0",
    "CNTPCT_EL0": "mrs x0, cntpct_el0",
    "CTR_EL0": "mrs x0, ctr_el0",
    "ESR_EL1": "mrs x0, esr_el1",
    "FAR_EL1": "mrs x0, far_el1",
    "MIDR_EL1": "mrs x0, midr_el1",
}


def program(instructions: Sequence[str], table: int, end: str) -> str:
    """Executes the instructions; byte n of `table` becomes 0, or the exception class of the n-th, plus 1."""
    lines = "\n".join(f"mov x10, xzr\n{line}\nstrb w10, [x11, #{n}]" for n, line in enumerate(instructions))
    return f"""
    b       1f
    .balign 2048
2:  .rept   16
    .balign 128
    mrs     x10, esr_el1
    lsr     x10, x10, #26
    add     x10, x10, #1
    mrs     x12, elr_el1
    add     x12, x12, #4
    msr     elr_el1, x12
    eret
    .endr
    .balign 128
1:  mrs     x13, vbar_el1
    adr     x0, 2b
    msr     vbar_el1, x0
    mov     x0, #0x3330000           // EL1's own traps of FP, SVE and SME are off: EL2's must do it
    msr     cpacr_el1, x0
    isb
    ldr     x11, ={table:#x}
    {lines}
    msr     cpacr_el1, xzr
    msr     vbar_el1, x13
    isb
    {end}
    .ltorg
    """


@pytest.fixture(scope="module", params=MODELS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A machine for each CPU model."""
    with booted(cpu_model=request.param) as rig:
        yield rig


def executed_by_vm(rig: Rig, slot: int, instructions: Sequence[str]) -> list[int]:
    """The table of a VM that executes the instructions."""
    end = "ldr x0, =0xC6000042\n hvc #0\n3: b 3b"
    code = assemble(program(instructions, TABLE, end))
    pages = {VM_RAM + offset: code[offset : offset + PAGE] for offset in range(0, len(code), PAGE)}
    vm = start_vm(rig, slot, {**pages, TABLE: bytes([NOTHING]) * PAGE})
    assert vm.run()[0] == EXITS["HOST_CALL"]
    return list(vm.memory(TABLE, len(instructions)))


def executed_by_host(rig: Rig, instructions: Sequence[str]) -> list[int]:
    """The table of the host."""
    table, area = rig.take(), rig.take(3)
    rig.write(table, bytes([NOTHING]) * len(instructions))
    place = area + -area % 2048
    rig.write(place, assemble(program(instructions, table, "ret")))
    rig.execute(place)
    return list(rig.read(table, len(instructions)))


@pytest.mark.qemu
def test_withheld_from_a_vm(rig: Rig) -> None:
    table = executed_by_vm(rig, 0, list(FOR_VMS_NOT.values()))
    usable = [name for name, seen in zip(FOR_VMS_NOT, table, strict=True) if seen != UNDEFINED]
    assert not usable, f"a VM can use {usable}"


@pytest.mark.qemu
def test_withheld_from_the_host(rig: Rig) -> None:
    table = executed_by_host(rig, list(FOR_THE_HOST_NOT.values()))
    usable = [name for name, seen in zip(FOR_THE_HOST_NOT, table, strict=True) if seen != UNDEFINED]
    assert not usable, f"the host can use {usable}"


@pytest.mark.qemu
def test_left_to_both(rig: Rig) -> None:
    instructions = list(PERMITTED.values())
    assert executed_by_vm(rig, 1, instructions) == [EXECUTED] * len(instructions)
    assert executed_by_host(rig, instructions) == [EXECUTED] * len(instructions)


def aarch32_program(address: int, result: int) -> str:
    """Enters EL0 in AArch32, which loads from `address`; ESR_EL1 of the exception goes to `result`."""
    return f"""
    b       1f
    .balign 2048
4:  .rept   12
    .balign 128
    udf     #0
    .endr
    .balign 128
    mrs     x0, esr_el1              // synchronous, from AArch32
    ldr     x2, ={result:#x}
    str     x0, [x2]
    adr     x0, 2f
    msr     elr_el1, x0
    mov     x0, #0x3c5
    msr     spsr_el1, x0
    eret
    .balign 128
1:  sub     sp, sp, #16
    mrs     x13, vbar_el1
    str     x13, [sp]
    adr     x0, 4b
    msr     vbar_el1, x0
    adr     x0, 3f
    msr     elr_el1, x0
    mov     x0, #0x1d0               // User mode, A32
    msr     spsr_el1, x0
    ldr     x1, ={address:#x}
    isb
    eret
2:  ldr     x13, [sp]
    add     sp, sp, #16
    msr     vbar_el1, x13
    isb
    ret
3:  .inst   0xe5910000               // ldr r0, [r1]
    .inst   0xeafffffe               // b .
    .ltorg
    """


@pytest.mark.qemu
def test_an_aarch32_program_of_the_host_cannot_stop_the_engine(rig: Rig) -> None:
    result, area = rig.take(), rig.take(3)
    place = area + -area % 2048
    engine = 0x4020_0000
    rig.write(place, assemble(aarch32_program(engine, result)))
    rig.execute(place)
    (syndrome,) = struct.unpack("<Q", rig.read(result, 8))
    data_abort_from_el0, external = 0x24, 0x10
    assert (syndrome >> 26, syndrome & 0x3F) == (data_abort_from_el0, external)
    rig.ok("version")
