"""The host runs a vCPU whose context it has written into a frame of its own, VTTBR_EL2 included."""

from attack.arena import RAM, Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="vcpu_run takes only frames that are recorded as vCPUs",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    forged = arena.take(arena.machine.physical(victim.context))
    assert arena.status("vcpu_run", vcpu=forged) == "NOT_OWNED", "a context of the host's making has run"
    assert arena.status("vcpu_set_entry", vcpu=forged, entry=RAM) == "NOT_OWNED"
