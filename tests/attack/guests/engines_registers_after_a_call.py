"""A VM looks, after its calls, at registers that they do not change, for what the engine has left there."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

FILL = 0x00C5_C0DE_1030_F000
KEPT = range(5, 27)
"""No call of a VM has more than four results."""
CALLS = (0x80000000, 0x84000000, 0x84000050, 0xC600FFFF, 0xC4000003, 0x86000000)
"""SMCCC_VERSION, PSCI_VERSION, TRNG_VERSION, none, CPU_ON (of nobody), VENDOR_HYP_FEATURES."""


@attack(
    by="vm",
    against="P6",
    refused="all registers but the results are loaded again as they came",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    msr     elr_el2, x4\n    msr     spsr_el2, x5\n    general ld\n",
        "    msr     elr_el2, x4\n    msr     spsr_el2, x5\n    ldp     x0, x1, [sp]\n    ldp     x2, x3, [sp, #0x10]\n"
        "    callee_saved ld\n    ldr     x30, [sp, #0xf0]\n",
    ),
)
def carry_out(arena: Arena) -> None:
    fill = f"ldr x5, ={FILL:#x}\n" + "\n".join(f"mov x{n}, x5" for n in KEPT[1:])
    differ = "\n".join(f"eor x{n}, x{n}, x0\n orr x1, x1, x{n}" for n in KEPT)
    check = f"ldr x0, ={FILL:#x}\n mov x1, xzr\n {differ}\n report x1"
    victim = arena.victim("\n".join(f"{fill}\n call {call:#x}, 99\n {check}" for call in CALLS))
    for call, bits in zip(CALLS, victim.reports(len(CALLS)), strict=True):
        assert bits == 0, f"after {call:#x} a VM finds in x5 to x26 bits {bits:#x} of the engine's"
