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
    victim, begun = arena.victim(), Vm(arena.machine, 1)
    answer = arena.status("vm_destroy", vm=begun.slot)
    assert answer == "BAD_STATE", f"a VM under construction has lost its slot: {answer}"
    answer = arena.status("vm_destroy", vm=victim.slot)
    assert answer == "BAD_STATE", f"a living VM has lost its slot: {answer}"
    assert victim.run().name == "WFI"
