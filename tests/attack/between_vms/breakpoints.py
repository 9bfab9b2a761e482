"""A VM sets a breakpoint where another VM executes."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack

ENABLE = "mov x0, #0xa000\n msr mdscr_el1, x0\n msr oslar_el1, xzr\n isb\n msr daifclr, #8"
"""MDSCR_EL1.MDE and KDE: breakpoints act at EL1, too."""
PLACE = RAM + 0x400


@attack(
    by="vm",
    against="P5",
    refused="the debug registers are loaded with the vCPU",
    removed=Edit("engine/arch/src/resident.rs", "    debug::load(Machine, vcpu);\n", ""),
)
def carry_out(arena: Arena) -> None:
    waiting = f"{ENABLE}\n wfi\n b 1f\n .org {PLACE - RAM:#x}\n 1: mov x0, #0x600d\n report x0"
    first = arena.victim(waiting, handler="mov x0, #0xbad\n report x0")
    assert first.run().name == "WFI"
    arm = f"ldr x0, ={PLACE:#x}\n msr dbgbvr0_el1, x0\n mov x0, #0x1e7\n msr dbgbcr0_el1, x0"
    second = arena.victim(f"{arm}\n {ENABLE}\n 1: wfi\n b 1b", slot=1)
    assert second.run().name == "WFI"
    assert first.reports() == [0x600D], "a VM has stopped at a breakpoint of another"
