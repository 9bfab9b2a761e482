"""The host makes a page of a VM the root table of a new one."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P7",
    refused="the ownership record of the frame says that it is a page",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("vm_create", vm=9, root=victim.page, vcpus=1, ram0_base=RAM, ram0_size=BLOCK)
    assert answer == "NOT_OWNED", "a page of a VM is the root table of another"
    arena.check(victim)
