"""The host gives one frame to two VMs, so that one reads what the other writes."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P6",
    refused="the ownership record of the frame says that it is the other VM's",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    first, second = arena.victim(slot=0), arena.victim(slot=1)
    ipa = RAM + 7 * PAGE
    answer = arena.map(second.slot, ipa, first.page)
    assert answer == "NOT_OWNED", f"a VM has the secret page of another: map answers {answer}"
    arena.check(first)
