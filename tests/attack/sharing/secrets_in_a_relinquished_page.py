"""The host reads a page that a VM has given back."""

from attack import removals
from attack.arena import Arena
from attack.sharer import SHARED, sharer
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.inspect.records import Kind


@attack(
    by="host",
    against="P6",
    refused="relinquish zeroes the page before it is the host's",
    removed=removals.SCRUB,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000045, {SHARED:#x}")
    page = victim.vm.pages[SHARED]
    arena.backend.poke(page, victim.content)
    assert victim.run().name == "SHARE"
    assert arena.owner(page) == Kind.HOST
    assert arena.backend.memory(page, PAGE) == bytes(PAGE), (
        "the host reads what a VM had in a page it has given back"
    )
