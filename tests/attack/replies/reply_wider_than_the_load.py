"""The host answers a load of one byte with 64 bits."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the reply is cut to the size of the access",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "let value = reply & low_bits(size);",
        "let value = reply;",
    ),
)
def carry_out(arena: Arena) -> None:
    for load, size in (("ldrb w5", 1), ("ldrh w5", 2), ("ldr w5", 4)):
        victim = arena.victim(f"ldr x28, ={DEVICE:#x}\n mov x5, #0\n {load}, [x28]\n report x5", slot=size)
        assert victim.run().name == "MMIO_READ"
        value = victim.run((1 << 64) - 1).data[2]
        assert value == (1 << 8 * size) - 1, f"`{load}` has loaded {value:#x}"
