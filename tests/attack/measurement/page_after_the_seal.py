"""The host maps a page with its own content when the measurement is sealed."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P5",
    refused="content comes in while the VM is under construction",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "if mode == MAP_MEASURED && state != State::BUILDING {",
        "if mode > MAP_MEASURED {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.map(victim.slot, RAM + 9 * PAGE, arena.take(b"unmeasured"), 1)
    assert answer == "BAD_STATE", "the host has put content of its choice into a sealed VM"
