"""The host creates a VM in the slot of a living one: same VMID, new tables."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="the slot is in use",
    removed=Edit(
        "engine/core/src/call/vm_create.rs",
        "if vm::state(hw, vm) != State::FREE {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status(
        "vm_create", vm=victim.slot, root=arena.take(), vcpus=1, ram0_base=RAM, ram0_size=BLOCK
    )
    assert answer == "ALREADY_MAPPED", "the slot and VMID of a living VM have been given away"
