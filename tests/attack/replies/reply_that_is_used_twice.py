"""The host answers again when nothing is pending, to overwrite the register of the last load."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="a reply is taken once, for the exit that asked for it",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "    vcpu.pending = Pending::NOTHING.0;\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(f"ldr x28, ={DEVICE:#x}\n ldr x5, [x28]\n wfi\n report x5")
    assert victim.run().name == "MMIO_READ"
    assert victim.run(7).name == "WFI"
    value = victim.run(0xBAD).data[2]
    assert value == 7, f"the host has changed a register to {value:#x} by a reply that nobody asked for"
