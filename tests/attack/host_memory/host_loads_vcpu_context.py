"""The host reads the registers of a VM from the frame that it gave for them."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldr x19, [x20]\n 1: wfi\n b 1b")
    victim.run()
    arena.machine.ok("vcpu_put")
    assert victim.marker[:8] in arena.machine.physical(victim.context), "the secret is not in the context"
    arena.unreachable(victim.context, "the context of a vCPU")
    arena.unreachable(victim.context + 19 * 8, "x19 of a vCPU")
