"""Programs for both sides of the world switch: a VM that puts a value into every register it has, and a host that looks
for them and overwrites whatever it can. Trust label: TOOL.

Both dump registers as 64-bit words in the order of GENERAL (x0 to x30), then FLAGS, then the system registers, then
both halves of V0 to V31. A register that traps leaves MARK in the host's dump.
"""

from __future__ import annotations

from dataclasses import dataclass

from boot.script import store_general

MARK = 0xDEAD_DEAD_DEAD_DEAD
VM_SALT, HOST_SALT = 0xC0DE_5EC2_0000_0001, 0x7057_AAAA_0000_0003


@dataclass(frozen=True)
class Register:
    """A system register: a value that the VM gives it, all of which hardware keeps, and bits that another VM flips."""

    name: str
    value: int
    flip: int


SYSTEM = (
    # First, for a register that traps changes them at the host:
    Register("elr_el1", 0xC0DE_0008_0808_0808, 0x10),
    Register("spsr_el1", 0x6000_03C4, 1 << 28),
    Register("esr_el1", 0x9600_C0DE, 1),
    Register("far_el1", 0xC0DE_0009_0909_0909, 0x10),
    # MMU off; A (alignment check), nTWE and others differ from the host's.
    Register("sctlr_el1", 0x30D1_19BA, 1 << 16),
    Register("cpacr_el1", 0x0030_0000, 0),
    Register("ttbr0_el1", 0x00C5_C0DE_1111_1000, 0x1000),
    Register("ttbr1_el1", 0x00C6_C0DE_2222_2000, 0x1000),
    Register("tcr_el1", 0x0000_0060_B5D9_3511, 0x100),
    Register("mair_el1", 0xC0DE_4444_00FF_44BB, 0x100),
    Register("contextidr_el1", 0xC0DE_0005, 0x10000),
    Register("vbar_el1", 0xFFFF_C0DE_0006_0800, 0x1000),
    Register("sp_el0", 0xC0DE_0007_0707_0707, 0x10),
    Register("tpidr_el0", 0xC0DE_000A_0A0A_0A0A, 0x10),
    Register("tpidrro_el0", 0xC0DE_000B_0B0B_0B0B, 0x10),
    Register("tpidr_el1", 0xC0DE_000C_0C0C_0C0C, 0x10),
    Register("par_el1", 0x0000_C0DE_0D0D_D000, 0x1000),
    Register("cntkctl_el1", 0x0000_0367, 0x20),
    Register("cntv_cval_el0", 0x40DE_000E_0E0E_0E0E, 0x10),
    Register("cntv_ctl_el0", 0x0000_0001, 2),
    Register("csselr_el1", 0x0000_0002, 1),
    Register("S3_0_C4_C6_0", 0x0000_0098, 0x20),  # ICC_PMR_EL1
    Register("S3_0_C12_C12_3", 0x0000_0005, 3),  # ICC_BPR1_EL1
    Register("S3_0_C12_C12_7", 0x0000_0001, 1),  # ICC_IGRPEN1_EL1
    Register("S3_0_C12_C12_6", 0x0000_0001, 1),  # ICC_IGRPEN0_EL1
    Register("S3_0_C12_C8_3", 0x0000_0004, 3),  # ICC_BPR0_EL1
    Register("S3_0_C12_C8_4", 0x0040_0000, 0x80_0000),  # ICC_AP0R0_EL1
    Register("S3_0_C12_C9_0", 0x0400_0000, 0x800_0000),  # ICC_AP1R0_EL1
    Register("S3_0_C12_C1_1", 0x8000_0041, 2),  # DISR_EL1
    Register("fpcr", 0x0740_0000, 0x0040_0000),
    Register("fpsr", 0x0800_001F, 0x10),
)
GENERAL = 31
FLAGS = GENERAL
FIRST_SYSTEM = GENERAL + 1
FIRST_VECTOR = FIRST_SYSTEM + len(SYSTEM)
WORDS = FIRST_VECTOR + 64
HOST_KEEPS = ("vbar_el1", "tpidr_el1")
"""The host's own: saved and restored by its program, and checked by its going on."""
HOST_LEAVES = tuple(
    register.name for register in SYSTEM if register.name.startswith(("S3_0_C4_C6", "S3_0_C12"))
)
"""Physical CPU interface and DISR_EL1: the payload needs its own values."""
SHOWN_BY_OTHERS = {
    **dict.fromkeys(("DAIF", "SPSel", "PAN", "UAO", "DIT", "SSBS", "TCO", "NZCV"), "in SPSR_EL2 as a whole"),
    "CNTV_TVAL_EL0": "a view of CNTV_CVAL_EL0",
    "ICC_CTLR_EL1": "in ICH_VMCR_EL2, as are the priority mask and the binary points",
    "ICC_SRE_EL1": "constant",
    **dict.fromkeys(("AMAIR_EL1", "AFSR0_EL1", "AFSR1_EL1"), "zero on these CPUs"),
}
"""Registers that a VM can write and that are not in SYSTEM, and why."""


def pattern(salt: int, number: int) -> int:
    """A value that no other register of this side holds."""
    return salt + number * 0x0101_0001_0001_0010 & (1 << 64) - 1


def _load(register: str, value: int) -> str:
    """By its complement, so that the value itself is in no code, which the host has put into memory."""
    return f"ldr {register}, ={~value & (1 << 64) - 1:#x}\nmvn {register}, {register}"


def _general(salt: int, registers: range) -> str:
    return "\n".join(_load(f"x{n}", pattern(salt, n)) for n in registers)


def _vectors(salt: int, scratch: str) -> str:
    lines = []
    for n in range(32):
        low, high = pattern(salt, 100 + 2 * n), pattern(salt, 101 + 2 * n)
        lines += [_load(scratch, low), f"fmov d{n}, {scratch}"]
        lines += [_load(scratch, high), f"mov v{n}.d[1], {scratch}"]
    return "\n".join(lines)


def _dump_system(base: str, scratch: str, mark: int | None) -> str:
    lines = []
    for n, name in enumerate(["nzcv", *(register.name for register in SYSTEM)]):
        if mark is not None and name == "fpcr":  # EL1's own trap of FP goes off: EL2's must do it
            lines += [f"mov {scratch}, #0x300000", f"msr cpacr_el1, {scratch}", "isb"]
        if mark is not None:
            lines.append(f"ldr {scratch}, ={mark:#x}")
        lines += [f"mrs {scratch}, {name}", f"str {scratch}, [{base}, #{8 * (FLAGS + n)}]"]
    for n in range(32):
        for half in range(2):
            if mark is not None:
                lines.append(f"ldr {scratch}, ={mark:#x}")
            lines.append(f"mov {scratch}, v{n}.d[{half}]")
            lines.append(f"str {scratch}, [{base}, #{8 * (FIRST_VECTOR + 2 * n + half)}]")
    return "\n".join(lines)


EXITS = {
    "HOST_CALL": "hvc #0",
    "WFI": "wfi",
    "MMIO_READ": "ldr w1, [x5]",
    "MMIO_WRITE": "str w1, [x5]",
    "SGI": "msr S3_0_C12_C11_5, xzr",
}
"""One way to leave the VM for each test; x5 holds a device address then, x0 to x3 the arguments of host_call."""
DEVICE = 0x0C0D_E000
PUBLIC = {"HOST_CALL": (1, 2, 3), "MMIO_WRITE": (1,), "MMIO_READ": (), "WFI": (), "SGI": ()}
"""General registers whose values an exit declares to the host."""


def vm_program(way: str, before: int, after: int, *, other: bool = False) -> str:
    """Sets every register, dumps them at IPA `before`, leaves the VM, dumps again at `after`, leaves for ever.

    With `other` each register gets another value than without. SP is part of the test: it is `after` at the exit,
    so that the second dump needs no other register.
    """
    salt = VM_SALT ^ other << 40
    values = {r.name: r.value ^ (r.flip if other else 0) for r in SYSTEM}
    control = values.pop("sctlr_el1")
    set_system = "\n".join(f"{_load('x0', value)}\nmsr {name}, x0" for name, value in values.items())
    return f"""
    mov     x0, #3 << 20
    msr     cpacr_el1, x0
    isb
    {set_system}
    {_vectors(salt, "x0")}
    {_load("x0", control)}
    msr     sctlr_el1, x0
    isb
    ldr     x0, ={before:#x}
    mov     sp, x0
    mov     x0, #0xA0000000
    msr     nzcv, x0
    {_dump_system("sp", "x1", None)}
    {_general(salt, range(31))}
    ldr     x0, =0xC6000042
    ldr     x5, ={DEVICE:#x}
    {store_general("sp")}
    add     sp, sp, #{after - before}
    {EXITS[way]}
    {store_general("sp")}
    {_dump_system("sp", "x1", None)}
    ldr     x0, =0xC6000042
    mov     x1, #0x600D
    mov     x2, xzr
    mov     x3, xzr
    hvc     #0
1:  b       1b
    .ltorg
    """


def vm_reader(dump: int) -> str:
    """Dumps what a vCPU finds at its start at IPA `dump`, and leaves. x0 is its argument, x1 becomes scratch."""
    return f"""
    ldr     x0, ={dump:#x}
    {store_general("x0")}
    mov     x1, #3 << 20
    msr     cpacr_el1, x1
    isb
    {_dump_system("x0", "x1", None)}
    ldr     x0, =0xC6000042
    hvc     #0
1:  b       1b
    .ltorg
    """


def host_program(vcpu: int, reply: int, dump: int) -> str:
    """Runs the vCPU once with a value in every register, dumps all registers at `dump`, then overwrites them."""
    values = [
        f"{_load('x0', pattern(HOST_SALT, 200 + n))}\nmsr {register.name}, x0"
        for n, register in enumerate(SYSTEM)
        if register.name not in (*HOST_KEEPS, *HOST_LEAVES, "cntv_ctl_el0")
    ]
    frame = 8 * (WORDS + 1) & -16
    return f"""
    b       1f
    .balign 2048
2:  .rept   16                       // skip the instruction that trapped; x28 and x29 are free by then
    .balign 128
    mrs     x28, elr_el1
    add     x28, x28, #4
    msr     elr_el1, x28
    eret
    .endr
    .balign 128
1:  sub     sp, sp, #128
    {_saved("stp")}
    mrs     x0, vbar_el1
    mrs     x1, tpidr_el1
    stp     x0, x1, [sp, #96]
    mov     x0, sp
    str     x0, [sp, #112]
    sub     sp, sp, #{frame}
    adr     x0, 2b
    msr     vbar_el1, x0
    isb
    {_general(HOST_SALT, range(31))}
    ldr     x0, ={RUN:#x}
    ldr     x1, ={vcpu:#x}
    ldr     x2, ={reply:#x}
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    hvc     #0
    {store_general("sp")}
    {_dump_system("sp", "x1", MARK)}
    mov     x0, sp                   // the dump goes to its page
    ldr     x1, ={dump:#x}
    mov     x2, #{WORDS}
3:  ldr     x3, [x0], #8
    str     x3, [x1], #8
    subs    x2, x2, #1
    b.ne    3b
    add     sp, sp, #{frame}
    ldr     x0, [sp, #112]
    mov     x2, sp
    sub     x0, x0, x2
    str     x0, [x1]                 // how far SP has moved: 0
    ldr     x3, ={MARK:#x}
    ldur    x3, [x2, #3]             // not aligned: faults under the VM's SCTLR_EL1
    str     x3, [x1, #8]
    ldr     x3, ={MARK:#x}
    orr     x4, x2, #1 << 60         // faults, unless the VM's TCR_EL1.TBI0 makes the top byte ignored
    ldr     x3, [x4]
    str     x3, [x1, #16]
    {chr(10).join(values)}
    {_vectors(HOST_SALT, "x0")}
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    msr     cpacr_el1, xzr
    msr     cntkctl_el1, xzr
    msr     cntv_ctl_el0, xzr
    ldp     x0, x1, [sp, #96]
    msr     vbar_el1, x0
    msr     tpidr_el1, x1
    isb
    {_saved("ldp")}
    add     sp, sp, #128
    ret
    .ltorg
    """


RUN = 0xC600_000D


def _saved(operation: str) -> str:
    return "\n".join(f"{operation} x{n}, x{n + 1}, [sp, #{8 * (n - 19)}]" for n in range(19, 30, 2))
