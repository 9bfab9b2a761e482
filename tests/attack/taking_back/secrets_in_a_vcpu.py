"""The host reads the registers that a dead VM has left in the context of its vCPU."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P6",
    refused="a frame is zeroed before the host has it again",
    removed=removals.SCRUB,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldp x18, x19, [x20]\n 1: wfi\n b 1b")
    victim.run()
    arena.machine.ok("vcpu_put")
    victim.vm.kill()
    arena.machine.ok("reclaim", frame=victim.context)
    left = arena.backend.memory(victim.context, PAGE)
    assert victim.marker[:8] not in left and not any(left), "the host reads the registers of a dead VM"
