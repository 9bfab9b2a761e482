"""The host starts a secondary vCPU where it likes; only the VM itself may, by CPU_ON."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="vcpu_set_entry takes vCPU 0 only",
    removed=Edit(
        "engine/core/src/call/vcpu_set_entry.rs",
        "if record.slot() != 0 {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine, vcpus=2)
    vm.page(RAM, content=b"\0")
    context = vm.vcpu(1)
    answer = arena.status("vcpu_set_entry", vcpu=context, entry=RAM)
    assert answer == "INVALID_ARGUMENT", "the host has chosen where a secondary vCPU starts"
