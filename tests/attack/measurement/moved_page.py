"""The host puts a page of the program elsewhere."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P5",
    refused="pages are measured with their address",
    removed=Edit(
        "engine/core/src/measure.rs",
        "[PAGE, ipa.0, 0, 0]",
        "[PAGE, 0, 0, 0]",
    ),
)
def carry_out(arena: Arena) -> None:
    honest = arena.measured(ipa=RAM)
    assert arena.measured(ipa=RAM + PAGE) != honest, "a page measures alike wherever it is"
