"""A VM reads, at an address that another VM uses as well, what that one has there."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="a vCPU's VTTBR_EL2 names the root table and the VMID of its VM",
    removed=Edit(
        "engine/core/src/vcpu/context.rs",
        "let root = Frame(hw.vm_word(vm, ",
        "let root = Frame(hw.vm_word(crate::addr::VmId(0), ",
    ),
)
def carry_out(arena: Arena) -> None:
    look = "secret x20\n ldr x0, [x20]\n report x0\n 1: b 1b"
    victims = [arena.victim(look, slot=slot, cpu=0) for slot in (0, 1, 62)]
    for victim in victims:
        assert victim.reports() == [int.from_bytes(victim.marker[:8], "little")], "a VM reads another's page"
