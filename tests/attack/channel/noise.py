"""A client sends noise over the management channel: random bytes, cut frames, endless ones."""

from random import Random

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="client",
    against="P2",
    refused="the host program at EL1 may fail, the engine does not read it",
    irremovable="the engine has no part in the channel",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    random = Random(1)
    for length in (1, 7, 100, 4096, 20_000):
        arena.backend.machine.link.send(random.randbytes(length))
        arena.backend.machine.link.send(b"\0")
    assert victim.run().name == "WFI"
