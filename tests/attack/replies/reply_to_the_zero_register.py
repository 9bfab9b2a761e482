"""The host answers a load whose target is the zero register, to make it something else."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="register 31 of a load is nobody's",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(
        f"ldr x28, ={DEVICE:#x}\n ldr xzr, [x28]\n str xzr, [x28]\n mov x5, xzr\n report x5"
    )
    assert victim.run().name == "MMIO_READ"
    assert victim.run((1 << 64) - 1).data[2] == 0, "the zero register of a VM stores something else"
    assert victim.reports() == [0]
