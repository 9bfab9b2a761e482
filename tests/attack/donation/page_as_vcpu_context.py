"""The host makes a page that a VM has written the context of a vCPU."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm


@attack(
    by="several",
    against="P6",
    refused="the ownership record of the frame says that it is a page",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    other = Vm(arena.machine, 1)
    answer = arena.status("vcpu_create", vm=other.slot, index=0, frame=victim.page)
    assert answer == "NOT_OWNED", "a page of a VM is the context of a vCPU"
    arena.check(victim)
