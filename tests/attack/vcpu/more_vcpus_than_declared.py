"""The host creates a vCPU beyond the number that was measured."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="the index must be below the declared number",
    removed=Edit(
        "engine/core/src/call/vcpu_create.rs",
        "if index >= hw.vm_word(vm, Field::VCPU_COUNT) {",
        "if index >= 8 {",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine, vcpus=2)
    for index in (2, 7, 8, 1 << 63):
        answer = arena.status("vcpu_create", vm=vm.slot, index=index, frame=arena.take())
        assert answer == "INVALID_ARGUMENT", f"a VM of 2 vCPUs has a vCPU {index}"
