"""The host gives a page of a VM as a translation table: its content is what the VM wrote."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="several",
    against="P7",
    refused="the ownership record of the frame says that it is a page",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("table_donate", vm=victim.slot, ipa=RAM + BLOCK, level=3, table=victim.page)
    assert answer == "NOT_OWNED", "a page of a VM is a table now"
    arena.check(victim)
