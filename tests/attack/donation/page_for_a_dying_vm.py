"""The host gives a page to a VM that it has killed, to have it never scrubbed."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P4",
    refused="a dying VM takes nothing",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "if state != State::BUILDING && state != State::ACTIVE {",
        "if state == State::FREE {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    assert arena.map(victim.slot, RAM + 7 * PAGE, arena.take()) == "BAD_STATE", "a dying VM has got a page"
