"""The host reads in the device tree the seed from which the engine makes random numbers for VMs."""

import fdt

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P6",
    refused="boot takes the seed and wipes it before the host runs",
    removed=Edit(
        "engine/image/src/seed.rs",
        "place.write_volatile(0);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    place, size = arena.boot_info.device_tree
    data = b"".join(
        arena.read(start, min(PAGE, place + size - start)) for start in range(place, place + size, PAGE)
    )
    chosen = fdt.parse_dtb(data).get_node("/chosen")
    for name in ("rng-seed", "kaslr-seed"):
        seed = chosen.get_property(name)
        assert seed is not None, f"the boot loader has left no {name}"
        assert not any(seed.data), f"the host reads {name}: {seed.data}"
