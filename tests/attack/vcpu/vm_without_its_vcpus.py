"""The host activates a VM without the vCPUs that were declared, to create them afterwards."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="all declared vCPUs exist before a VM is sealed",
    removed=Edit(
        "engine/core/src/call/activate.rs",
        " || !is_complete(hw, vm)",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine, vcpus=2)
    vm.page(RAM, content=b"\0")
    vm.vcpu(0)
    vm.entry()
    assert arena.status("activate", vm=vm.slot) == "BAD_STATE", "a VM is active and lacks a vCPU"
