"""The host gives a page that a VM shares with it to another VM."""

from attack import removals
from attack.arena import RAM, Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import attack
from bulkhead.conformance import Vm


@attack(
    by="several",
    against="P6",
    refused="a shared page is still the VM's in the ownership record",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    page = accepted(arena, victim)
    other = Vm(arena.machine, 1).cover()
    assert arena.map(other.slot, RAM, page) == "NOT_OWNED", "two VMs have one page"
    answer = arena.status("vcpu_create", vm=other.slot, index=0, frame=page)
    assert answer == "NOT_OWNED", "a shared page is the context of a vCPU"
