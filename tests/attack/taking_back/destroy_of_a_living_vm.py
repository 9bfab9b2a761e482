"""The host frees the slot of a VM that lives."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="only a dying VM is destroyed",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    assert arena.status("vm_destroy", vm=victim.slot) == "BAD_STATE", "a living VM has lost its slot"
    assert victim.run().name == "WFI"
