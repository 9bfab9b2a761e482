"""The host reads the whole register when a VM stores a byte of it to a device."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the value is cut to the size of the access",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "as usize) & low_bits(size);",
        "as usize);",
    ),
)
def carry_out(arena: Arena) -> None:
    for store, size in (("strb w19", 1), ("strh w19", 2), ("str w19", 4)):
        victim = arena.victim(
            f"secret x20\n ldr x19, [x20]\n ldr x28, ={DEVICE:#x}\n {store}, [x28]", slot=size
        )
        told = victim.run().data[2]
        assert told == int.from_bytes(victim.marker[:size], "little"), f"`{store}` tells the host {told:#x}"
