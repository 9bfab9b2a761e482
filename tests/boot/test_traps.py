"""What neither a VM nor the host may use is UNDEFINED for it, on every CPU model that QEMU offers and the engine knows.

Each domain executes the instructions one by one under its own exception vector; a table of exception classes comes
back (0: executed). System registers: `test_registers.py`. Sources: Arm ARM DDI 0487 D24.2 (HCR_EL2, HCRX_EL2,
CPTR_EL2), engine/docs/trust.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pytest

from boot.assembly import SKIPPING_VECTORS, assemble
from boot.rig import EXITS, PAGE, VM_RAM, Rig, booted, start_vm

MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
EXECUTED, UNDEFINED = 0, 1
NOTHING = 0xFF
"""What a table holds where the program never came."""
TABLE = VM_RAM + 0x10_0000

FOR_NOBODY = {
    "RDVL": ".inst 0x04bf5000",  # rdvl x0, #0
    "LDR Z0": ".inst 0x85804160",  # ldr z0, [x11]
    "MOV Z31": ".inst 0x05e03bff",  # dup z31.d, xzr
    "PTRUE P0": ".inst 0x2518e3e0",  # ptrue p0.b
    "STR P15": ".inst 0xe580016f",  # str p15, [x11]
    "RDFFR": ".inst 0x2519f000",  # rdffr p0.b
    "SETFFR": ".inst 0x252c9000",
    "SMSTART SM": ".inst 0xd503437f",  # msr svcrsm, #1
    "SMSTART ZA": ".inst 0xd503457f",  # msr svcrza, #1
    "RDSVL": ".inst 0x04bf5800",  # rdsvl x0, #0
    "MSR ALLINT, #1": ".inst 0xd501411f",
    "PACGA": ".inst 0x9ac03000",  # pacga x0, x0, x0
    "CPYFP": ".inst 0x19010440",  # cpyfp [x0]!, [x1]!, x2!
    "SETP": ".inst 0x19c20420",  # setp [x0]!, x1!, x2
}
"""State that is hidden, and instructions that need state or controls that no domain has; not by MRS or MSR, every one
of which `test_registers.py` tries."""
FOR_THE_HOST_NOT = FOR_NOBODY | {
    "FMOV X0, D0": "fmov x0, d0",
    "LDR Q31": "ldr q31, [x11]",
    "DC ISW": "dc isw, xzr",
    "DC CSW": "dc csw, xzr",
    "DC CISW": "dc cisw, xzr",
}
PERMITTED = {
    "DC CVAC": "dc cvac, x11",
    "IC IALLU": "ic iallu",
    "TLBI VMALLE1": "tlbi vmalle1",
    "SMC": "smc #0",
}
FOR_VMS = PERMITTED | {
    "FMOV X0, D0": "fmov x0, d0",
    "DC ISW": "dc isw, xzr",
    "DC CSW": "dc csw, xzr",
    "DC CISW": "dc cisw, xzr",
}


def program(instructions: Sequence[str], table: int, end: str) -> str:
    """Executes the instructions; byte n of `table` becomes 0, or the exception class of the n-th, plus 1."""
    lines = "\n".join(f"mov x10, xzr\n{line}\nstrb w10, [x11, #{n}]" for n, line in enumerate(instructions))
    return f"""
    {SKIPPING_VECTORS}
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
    table = executed_by_vm(rig, 0, list(FOR_NOBODY.values()))
    usable = [name for name, seen in zip(FOR_NOBODY, table, strict=True) if seen != UNDEFINED]
    assert not usable, f"a VM can use {usable}"


@pytest.mark.qemu
def test_withheld_from_the_host(rig: Rig) -> None:
    table = executed_by_host(rig, list(FOR_THE_HOST_NOT.values()))
    usable = [name for name, seen in zip(FOR_THE_HOST_NOT, table, strict=True) if seen != UNDEFINED]
    assert not usable, f"the host can use {usable}"


@pytest.mark.qemu
def test_left_to_them(rig: Rig) -> None:
    for executed, permitted in (
        (executed_by_vm(rig, 1, list(FOR_VMS.values())), FOR_VMS),
        (executed_by_host(rig, list(PERMITTED.values())), PERMITTED),
    ):
        assert dict(zip(permitted, executed, strict=True)) == dict.fromkeys(permitted, EXECUTED)


SSBS, DSSBS = 1 << 12, 44
FLAGS = [flags << 28 for flags in (0b0000, 0b0101, 0b1010, 0b1111)]
BY_ENGINE, BY_CPU = "mrs x10, pmcr_el0", "udf #0"
"""UNDEFINED for a VM because MDCR_EL2.TPM traps it, and by itself."""


def state_program(attempts: Sequence[tuple[str, int, int]]) -> str:
    """Takes exceptions with flags and SCTLR_EL1.DSSBS as given, and PSTATE.SSBS the other way round. To `TABLE`:
    NZCV and SSBS of each as its handler finds them.
    """
    lines = "\n".join(
        f"""
    ldr     x0, ={dssbs << DSSBS | 0x30D0_0800:#x}
    msr     sctlr_el1, x0
    mov     x0, #{(1 - dssbs) * SSBS}
    msr     s3_3_c4_c2_6, x0         // SSBS
    mov     x0, #{flags:#x}
    msr     nzcv, x0
    isb
    {instruction}"""
        for instruction, flags, dssbs in attempts
    )
    return f"""
    b       1f
    .balign 2048
2:  .fill   0x80, 4, 0               // 0x200: a synchronous exception of EL1
    mrs     x12, nzcv
    mrs     x13, s3_3_c4_c2_6
    stp     x12, x13, [x11], #16
    mrs     x12, elr_el1
    add     x12, x12, #4
    msr     elr_el1, x12
    eret
1:  adr     x0, 2b
    msr     vbar_el1, x0
    ldr     x11, ={TABLE:#x}
    {lines}
    ldr     x0, =0xC6000042
    hvc     #0
3:  b       3b
    .ltorg
    """


@pytest.mark.qemu
def test_state_of_the_processor_after_an_undefined_instruction(rig: Rig) -> None:
    """The flags are what they were, SSBS is SCTLR_EL1.DSSBS (Arm ARM DDI 0487, AArch64.TakeException). Where QEMU's CPU
    takes the exception itself, SSBS is the same; flags it clears.
    """
    cases = [(flags, dssbs) for flags in FLAGS for dssbs in (0, 1)]
    attempts = [(instruction, *case) for case in cases for instruction in (BY_ENGINE, BY_CPU)]
    code = assemble(state_program(attempts))
    pages = {VM_RAM + offset: code[offset : offset + PAGE] for offset in range(0, len(code), PAGE)}
    vm = start_vm(rig, 2, {**pages, TABLE: bytes([NOTHING]) * PAGE})
    assert vm.run()[0] == EXITS["HOST_CALL"]
    words = struct.unpack(f"<{4 * len(cases)}Q", vm.memory(TABLE, 32 * len(cases)))
    assert list(zip(words[::4], words[1::4], strict=True)) == [
        (flags, dssbs * SSBS) for flags, dssbs in cases
    ]
    assert list(words[3::4]) == [dssbs * SSBS for _, dssbs in cases], "of the CPU's own exceptions"


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
