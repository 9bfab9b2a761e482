"""The host adds a vCPU to a VM that is sealed."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="vCPUs are created while the VM is under construction",
    removed=Edit(
        "engine/core/src/call/vcpu_create.rs",
        "if vm::state(hw, vm) != State::BUILDING {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.machine.ok("vcpu_put")
    answer = arena.status("vcpu_create", vm=victim.slot, index=0, frame=arena.take())
    assert answer == "BAD_STATE", f"vcpu_create for a sealed VM answers {answer}"
