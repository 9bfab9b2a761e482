"""A VM goes back to an earlier runtime measurement, or the host extends it."""

from attack.arena import STATUS, Arena
from attack.removals import CHAIN
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="extend only appends, and only the VM itself may",
    removed=CHAIN,
)
def carry_out(arena: Arena) -> None:
    extend = "mov x4, xzr\n call 0xc6000041, 7, 8, 9\n report x1"
    victim = arena.victim("\n".join([extend] * 3) + "\n mov x1, xzr\n call 0xc6000041, 0, 0, 0\n report x1")
    values = victim.reports(4)
    assert len(set(values)) == 4, "an earlier runtime measurement has come back"
    assert arena.machine.registers(0xC6000041, 7, 8, 9)[0] == STATUS["NOT_SUPPORTED"], (
        "the host has extended it"
    )
