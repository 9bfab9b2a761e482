"""A VM reads and writes the registers of EL2, and invalidates the TLBs of others."""

from attack.arena import Arena
from bulkhead.attack import attack

OPERATIONS = (
    "mrs x0, hcr_el2",
    "msr vttbr_el2, xzr",
    "msr vbar_el2, xzr",
    "mrs x0, cnthctl_el2",
    "tlbi alle1is",
    "tlbi vmalls12e1is",
    "tlbi alle2",
    "at s12e1r, x0",
    "mrs x0, mdcr_el2",
    "msr sp_el1, x0",
    "eret_el2",
)[:-1]


@attack(
    by="vm",
    against="P5",
    refused="they are UNDEFINED at EL1; the engine gives the exception back to the VM",
    irremovable="the architecture refuses by itself",
)
def carry_out(arena: Arena) -> None:
    for slot, operation in enumerate(OPERATIONS):
        program = f"mov x0, #0\n {operation}\n mov x0, #0xbad\n report x0"
        victim = arena.victim(program, slot=slot, handler="mrs x0, esr_el1\n report x0")
        syndrome = victim.reports()[0]
        assert syndrome >> 26 == 0 and syndrome & 1 << 25, f"`{operation}` by a VM: {syndrome:#x}"
