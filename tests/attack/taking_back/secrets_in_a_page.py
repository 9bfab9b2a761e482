"""The host reads what a VM has left in a page."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P6",
    refused="a frame is zeroed before the host has it again",
    removed=removals.SCRUB,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    arena.machine.ok("reclaim", frame=victim.page)
    assert arena.backend.memory(victim.page, PAGE) == bytes(PAGE), (
        "the host reads what a VM has left in a page"
    )
