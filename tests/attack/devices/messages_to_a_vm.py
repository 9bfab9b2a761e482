"""The host makes a function's message-signalled interrupt a store to a VM's page and to the engine."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, pci
from bulkhead.attack import Edit, attack


@attack(
    by="device",
    against="P7",
    refused="messages are writes, which the SMMU translates like others",
    removed=Edit(
        "engine/image/src/smmu.rs",
        "const STAGE_2_ONLY: u64 = 0b110 << 1;",
        "const STAGE_2_ONLY: u64 = 0b100 << 1;",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    function = edu.Edu(pci.function(arena, EDU))
    victim = arena.victim()
    arena.withstands(victim, lambda target: function.message(target, 0x5A5A), "a message")
