"""The host starts a CPU at an address in a VM's page, or in the engine."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="a CPU of the host begins at EL1 behind the host's stage 2",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.cpu_off(1)
    for entry in (victim.page, *arena.engine_frames.values()):
        arena.host(
            f"ldr x0, =0xc4000003\n mov x1, #1\n ldr x2, ={entry:#x}\n mov x3, #0\n hvc #0\n result 0, x0"
        )
    arena.check(victim)
    assert victim.run().name == "WFI"
