"""The host changes ownership while another CPU is in the middle of doing so."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P3",
    refused="one lock, tried once: BUSY",
    removed=Edit(
        "engine/core/src/call/dispatch.rs",
        "if !hw.try_lock() {",
        "if !hw.try_lock() && function == 0 {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    frame = arena.take()
    with arena.machine.locked():
        for name, arguments in {
            "map": {"vm": victim.slot, "ipa": RAM + 9 * PAGE, "frame": frame},
            "vm_kill": {"vm": victim.slot},
            "vm_create": {"vm": 9, "root": frame, "vcpus": 1, "ram0_base": RAM, "ram0_size": PAGE},
        }.items():
            assert arena.status(name, **arguments) == "BUSY", f"{name} did not wait for the other CPU"
