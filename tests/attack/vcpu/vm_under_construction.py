"""The host runs a VM before it is sealed, and changes it afterwards."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="only an active VM runs",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "vm::state(hw, record.vm()) == State::ACTIVE",
        "vm::state(hw, record.vm()) != State::FREE",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine)
    vm.page(RAM, content=b"\0")
    context = vm.vcpu(0)
    vm.entry()
    assert arena.status("vcpu_run", vcpu=context) == "BAD_STATE", "a VM has run before it was sealed"
