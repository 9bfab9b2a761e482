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
)
SKIP = "mrs x0, elr_el1\n add x0, x0, #4\n msr elr_el1, x0\n eret"


@attack(
    by="vm",
    against="P5",
    refused="they are UNDEFINED at EL1; the engine gives the exception back to the VM",
    irremovable="the architecture refuses by itself",
)
def carry_out(arena: Arena) -> None:
    tries = "\n".join(f"mov x0, #0\n {operation}" for operation in OPERATIONS)
    victim = arena.victim(f"{tries}\n 1: wfi\n b 1b", handler=f"mrs x1, esr_el1\n report x1\n {SKIP}")
    for operation in OPERATIONS:
        exit_ = victim.run()
        syndrome = exit_.data[2] if exit_.name == "MMIO_WRITE" else None
        assert syndrome == 1 << 25, f"`{operation}` by a VM: {exit_}"
    assert victim.run().name == "WFI"
