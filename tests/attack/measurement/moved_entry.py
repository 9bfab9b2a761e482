"""The host starts the program in its middle, or with another argument."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="entry point and argument are measured",
    removed=Edit(
        "engine/core/src/measure.rs",
        "[ENTRY, entry, context, 0]",
        "[ENTRY, 0, 0, 0]",
    ),
)
def carry_out(arena: Arena) -> None:
    honest = arena.measured()
    assert arena.measured(entry=RAM + 4) != honest, "a VM measures alike wherever it starts"
    assert arena.measured(context=1) != honest, "a VM measures alike whatever its argument is"
