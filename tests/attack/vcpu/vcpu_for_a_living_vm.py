"""The host adds a vCPU to a VM that is sealed, or to one that it has killed."""

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
    victim, dead = arena.victim(), arena.victim(slot=1)
    dead.vm.kill()
    arena.machine.ok("reclaim", frame=dead.context)
    for vm in (dead, victim):
        answer = arena.status("vcpu_create", vm=vm.slot, index=0, frame=arena.take())
        assert answer == "BAD_STATE", f"vcpu_create for a VM that is not under construction answers {answer}"
    assert victim.run().name == "WFI"
