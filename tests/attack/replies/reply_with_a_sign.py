"""The host sets the upper half of a register by the sign of a 32-bit load."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="a signed load fills the width of its register, no more",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "if iss & SF != 0 { extended } else { extended & low_bits(4) }",
        "extended",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(f"ldr x28, ={DEVICE:#x}\n mov x5, #0\n ldrsb w5, [x28]\n report x5")
    assert victim.run().name == "MMIO_READ"
    value = victim.run(0x80).data[2]
    assert value == 0xFFFF_FF80, f"`ldrsb w5` has loaded {value:#x}"
