"""A VM masks everything and spins, so that the CPU is its own for ever."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P2",
    refused="physical interrupts exit whatever the VM masks; the host's timer is physical",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("msr daifset, #15\n msr S3_0_C4_C6_0, xzr\n msr S3_0_C12_C12_7, xzr\n 1: b 1b")
    reply = arena.machine.ok("vcpu_run", vcpu=victim.context)
    assert reply.results["class"] == 0, f"a VM that never exits: {reply}"
