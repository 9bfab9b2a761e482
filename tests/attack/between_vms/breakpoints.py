"""A VM sets a breakpoint where another VM executes."""

from attack.arena import RAM, Arena
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P5",
    refused="the debug registers are loaded with the vCPU",
)
def carry_out(arena: Arena) -> None:
    arm = f"ldr x0, ={RAM + 16:#x}\n msr dbgbvr0_el1, x0\n mov x0, #0x1e7\n msr dbgbcr0_el1, x0"
    enable = "mov x0, #1 << 15\n msr mdscr_el1, x0\n msr oslar_el1, xzr\n isb\n msr daifclr, #8"
    first = arena.victim(f"{arm}\n {enable}\n 1: wfi\n b 1b")
    assert first.run().name == "WFI"
    second = arena.victim(
        "msr daifclr, #8\n mov x0, #0x600d\n report x0", slot=1, handler="mov x0, #0xbad\n report x0"
    )
    assert second.reports() == [0x600D], "a VM has stopped at a breakpoint of another"
