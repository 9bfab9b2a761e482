"""A client sends sound frames with requests that make no sense."""

from contextlib import suppress

from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.machine.errors import LinkError


@attack(
    by="client",
    against="P2",
    refused="the host program at EL1 may fail, the engine does not read it",
    irremovable="the engine has no part in the channel",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    requests = (
        ("call", {"cpu": 99, "regs": [0] * 18}),
        ("call", {"cpu": 0, "regs": [0]}),
        ("call", {}),
        ("begin", {"cpu": 0}),
        ("read", {"address": (1 << 64) - 1, "length": 4096}),
        ("write", {"address": 0, "data": b"x" * 4096}),
        ("execute", {"address": 3}),
        ("finish", {"cpu": 1, "address": 7}),
        ("no such thing", {"a": [1, [2, [3]]]}),
    )
    for operation, arguments in requests:
        with suppress(LinkError):
            arena.backend.link.call(operation, arguments)
    assert victim.run().name == "WFI"
