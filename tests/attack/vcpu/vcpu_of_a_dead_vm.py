"""The host runs a VM that it has killed."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P4",
    refused="the state of the VM is checked before and after the claim",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "vm::state(hw, record.vm()) == State::ACTIVE",
        "vm::state(hw, record.vm()) != State::FREE",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    assert arena.status("vcpu_run", vcpu=victim.context) == "BAD_STATE", "a dead VM has run"
