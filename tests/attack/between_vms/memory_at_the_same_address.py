"""A VM reads, at an address that another VM uses as well, what that one has there."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P6",
    refused="each VM has its own VMID and its own tables",
)
def carry_out(arena: Arena) -> None:
    look = "secret x20\n ldr x0, [x20]\n report x0\n 1: b 1b"
    victims = [arena.victim(look, slot=slot, cpu=0) for slot in (0, 1, 62)]
    for victim in victims:
        assert victim.reports() == [int.from_bytes(victim.marker[:8], "little")], "a VM reads another's page"
