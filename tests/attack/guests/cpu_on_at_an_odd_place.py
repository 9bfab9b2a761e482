"""A vCPU starts another at an address that no VM can have, or between two instructions."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack

INVALID_ADDRESS = (1 << 64) - 9


@attack(
    by="vm",
    against="P2",
    refused="the entry must be aligned and below 2^39",
    removed=Edit(
        "engine/core/src/psci.rs",
        "if entry & 3 != 0 || entry >> IPA_BITS != 0 {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    places = (RAM + 1, RAM + 2, 1 << 39, 1 << 63, (1 << 64) - 4)
    calls = "\n".join(f"call 0xc4000003, 1, {place:#x}\n report x0" for place in places)
    victim = arena.victim(calls, vcpus=2)
    for place in places:
        exit_ = victim.run()
        assert exit_.name == "MMIO_WRITE" and exit_.data[2] == INVALID_ADDRESS, (
            f"CPU_ON at {place:#x}: {exit_}"
        )
