"""The host takes back the frame of a vCPU that another CPU has loaded: it would be stored to the host's frame."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the record of a loaded vCPU says so, and is exchanged, not written",
    removed=Edit(
        "engine/core/src/call/reclaim.rs",
        "if run != RunState::OFF && run != RunState::RUNNABLE {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldr x19, [x20]\n 1: wfi\n b 1b")
    victim.guest.cpu = 1
    assert victim.run().name == "WFI"
    victim.vm.kill()
    assert arena.status("reclaim", frame=victim.context) == "BUSY", "the host has the frame of a loaded vCPU"
