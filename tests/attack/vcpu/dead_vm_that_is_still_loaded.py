"""The host kills a VM whose vCPU is loaded, and goes on running it where nothing has to be claimed."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P4",
    refused="the state of the VM is checked at every entry, also on the short path",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "return if is_active(hw, record) {",
        "return if record.kind() == Kind::VCPU {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    assert victim.run().name == "WFI"
    victim.vm.kill()
    assert arena.status("vcpu_run", vcpu=victim.context) == "BAD_STATE", "a dead VM goes on"
