"""The host jumps to code of a VM."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack

ENTRY = 16
"""Of the function: behind the start of every VM's program and a branch."""


@attack(
    by="host",
    against="P6",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("b 2f\n 1: mov x0, #0x5ec\n ret\n 2: wfi\n b 2b")
    arena.aborts(f"ldr x9, ={victim.vm.pages[RAM] + ENTRY:#x}\n blr x9", "a fetch from a VM's page")
