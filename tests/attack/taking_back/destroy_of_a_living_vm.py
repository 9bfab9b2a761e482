"""The host frees the slot of a VM that lives."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="only a dying VM is destroyed",
    removed=Edit(
        "engine/core/src/call/vm_destroy.rs",
        "if vm::state(hw, vm) != State::DYING {",
        "if vm::state(hw, vm) == State::FREE {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    assert arena.status("vm_destroy", vm=victim.slot) == "BAD_STATE", "a living VM has lost its slot"
    assert victim.run().name == "WFI"
    begun = Vm(arena.machine, 1)
    assert arena.status("vm_destroy", vm=begun.slot) == "BAD_STATE", (
        "a VM under construction has lost its slot"
    )
