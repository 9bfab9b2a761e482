"""A VM accesses device space by instructions that no syndrome describes: pairs, vectors, exclusives, write-back."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack

EXTERNAL_ABORT = 0x10
INSTRUCTIONS = (
    "ldp x1, x2, [x0]",
    "stp x1, x2, [x0]",
    "ldr x1, [x0], #8",
    "str x1, [x0, #8]!",
    "ldr q0, [x0]",
    "ldxr x1, [x0]",
    "ldaxp x1, x2, [x0]",
    "dc zva, x0",
)


@attack(
    by="vm",
    against="P2",
    refused="without a valid syndrome there is no MMIO exit: the VM takes an external abort",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "let describes_access = syndrome.esr & (ISV | S1PTW) == ISV;",
        "let describes_access = true;",
    ),
)
def carry_out(arena: Arena) -> None:
    skip = "mrs x3, elr_el1\n add x3, x3, #4\n msr elr_el1, x3\n eret"
    handler = f"mrs x3, esr_el1\n and x3, x3, #0x3f\n report x3\n {skip}"
    enable = "mov x3, #3 << 20\n msr cpacr_el1, x3\n isb"
    tries = "\n".join(f"ldr x0, ={DEVICE + 0x1000:#x}\n {instruction}" for instruction in INSTRUCTIONS)
    victim = arena.victim(f"{enable}\n {tries}\n 1: wfi\n b 1b", handler=handler)
    for instruction in INSTRUCTIONS:
        exit_ = victim.run()
        told = exit_.name == "MMIO_WRITE" and exit_.data == (DEVICE, 8, EXTERNAL_ABORT)
        assert told, f"`{instruction}` on device space: {exit_}"
    assert victim.run().name == "WFI"
