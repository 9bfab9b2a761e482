"""A VM lets the walk of its own translation tables lead to device space, so that the host answers for a descriptor."""

from attack.arena import RAM, Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack

EXTERNAL_ABORT = 0x10
TABLE = RAM + 0x2000
SETUP = f"""
    ldr     x0, ={TABLE:#x}
    ldr     x1, =0x401               // device space: Device-nGnRnE (attribute 1 of MAIR), accessed
    orr     x1, x1, #4
    str     x1, [x0]
    ldr     x1, ={RAM | 0x701:#x}    // RAM: Normal, inner shareable, accessed
    str     x1, [x0, #8]
    ldr     x1, =0xff                // attribute 0 Normal, 1 Device
    msr     mair_el1, x1
    ldr     x1, =0x5b5193519         // 39 bits each, walks write-back, 4 KiB
    msr     tcr_el1, x1
    msr     ttbr0_el1, x0
    ldr     x1, ={DEVICE:#x}
    msr     ttbr1_el1, x1
    isb
    mrs     x1, sctlr_el1
    orr     x1, x1, #1
    msr     sctlr_el1, x1
    isb
    mov     x3, #0x600d
    report  x3
"""


@attack(
    by="vm",
    against="P2",
    refused="a fault of a walk is no access of the VM: it takes an external abort",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "let describes_access = syndrome.esr & (ISV | S1PTW) == ISV;",
        "let describes_access = true;",
    ),
)
def carry_out(arena: Arena) -> None:
    handler = "mrs x3, esr_el1\n and x3, x3, #0x3f\n report x3"
    victim = arena.victim(
        f"{SETUP}\n mov x0, #0xffffff8000000000\n ldr x1, [x0]\n report x1", handler=handler
    )
    victim.vm.page(TABLE)
    assert victim.reports() == [0x600D]
    exit_ = victim.run()
    told = exit_.name == "MMIO_WRITE" and exit_.data[:2] == (DEVICE, 8)
    assert told, f"a walk of a VM's tables: {exit_}"
