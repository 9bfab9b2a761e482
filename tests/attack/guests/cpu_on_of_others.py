"""A vCPU starts vCPUs that its VM does not have: of other VMs, of the machine."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack

INVALID_PARAMETERS = (1 << 64) - 2


@attack(
    by="vm",
    against="P5",
    refused="the target must be a vCPU of the caller's own VM",
    removed=Edit(
        "engine/core/src/psci.rs",
        "if affinity >= VCPUS_MAX as u64 || affinity >= hw.vm_word(vm, Field::VCPU_COUNT) {",
        "if affinity >> 32 != 0 {",
    ),
)
def carry_out(arena: Arena) -> None:
    other = arena.victim(slot=1, vcpus=2)
    targets = (64, 65, 1, 2, 8, 63, 0x100, 0x101, 0x1_0000, 1 << 32, 1 << 63, (1 << 64) - 1)
    calls = "\n".join(f"call 0xc4000003, {target:#x}, {RAM:#x}\n report x0" for target in targets)
    victim = arena.victim(calls)
    for target in targets:  # 64 and 65 would be the other VM's, whose record follows
        answer = victim.reports()[0]
        assert answer == INVALID_PARAMETERS, (
            f"CPU_ON of {target:#x}, which this VM does not have, answers {answer:#x}"
        )
    assert arena.status("vcpu_run", vcpu=other.vm.contexts[1]) == "BAD_STATE", (
        "a VM has started another's vCPU"
    )
