"""A vCPU starts vCPUs that its VM does not have: of other VMs, of the machine."""

from attack.arena import RAM, Arena
from bulkhead.attack import attack

INVALID_PARAMETERS = (1 << 64) - 2


@attack(
    by="vm",
    against="P5",
    refused="the target must be a vCPU of the caller's own VM",
)
def carry_out(arena: Arena) -> None:
    other = arena.victim(slot=1, vcpus=2)
    targets = (1, 2, 8, 63, 0x100, 0x101, 0x1_0000, 1 << 32, 1 << 63, (1 << 64) - 1)
    calls = "\n".join(f"call 0xc4000003, {target:#x}, {RAM:#x}\n report x0" for target in targets)
    answers = arena.victim(calls).reports(len(targets))
    assert set(answers) == {INVALID_PARAMETERS}, f"CPU_ON of others answers {list(map(hex, answers))}"
    assert arena.status("vcpu_run", vcpu=other.vm.contexts[1]) == "BAD_STATE", (
        "a VM has started another's vCPU"
    )
