"""A VM calls the firmware itself."""

from attack import removals
from attack.arena import STATUS, Arena
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P5",
    refused="SMC of a VM traps and is not supported",
    removed=removals.SMC,
)
def carry_out(arena: Arena) -> None:
    for function in (0x8400_0000, 0x8400_000A, 0x8000_0000, 0xC300_0000):
        victim = arena.victim(f"ldr x0, ={function:#x}\n mov x1, #0\n smc #0\n report x0", slot=function % 61)
        answer = victim.reports()[0]
        assert answer == STATUS["NOT_SUPPORTED"], f"the firmware answers {answer:#x} to a VM's {function:#x}"
