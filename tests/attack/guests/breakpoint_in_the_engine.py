"""A VM sets breakpoints and watchpoints that act at EL2, on code and data of the engine."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.image.memory_map import window

HIGHER = 1 << 13 | 3 << 14
"""DBGBCR<n>_EL1 and DBGWCR<n>_EL1: HMC and SSC, by which they match at EL2 (Arm ARM DDI 0487, table D2-12)."""
ENABLED = 0x1FF
"""E, PMC or PAC, and all bytes."""


@attack(
    by="vm",
    against="P2",
    refused="of the control registers only bits that act on EL0 and EL1 are kept",
    removed=Edit("engine/core/src/vcpu/debug.rs", "1 => BREAKPOINT,", "1 => BREAKPOINT | 7 << 13,"),
)
def carry_out(arena: Arena) -> None:
    symbols = arena.backend.symbols
    code = symbols.address("bulkhead_vm_vectors") + 0x400
    victim = arena.victim(f"""
        ldr     x0, ={code:#x}
        msr     dbgbvr0_el1, x0
        ldr     x0, ={HIGHER | ENABLED:#x}
        msr     dbgbcr0_el1, x0
        ldr     x1, ={window("PERCPU").base:#x}
        msr     dbgwvr0_el1, x1
        msr     dbgwcr0_el1, x0
        mov     x0, #0xa000
        msr     mdscr_el1, x0
        isb
        mrs     x1, dbgbcr0_el1
        mrs     x2, dbgwcr0_el1
        report  x1
        report  x2
    """)
    for name, value in zip(("breakpoint", "watchpoint"), victim.reports(2), strict=True):
        assert not value & HIGHER, f"a VM has a {name} for EL2: {value:#x}"
