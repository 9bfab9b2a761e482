"""The host leaves a page of the program out, which reads as zeros then."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="every page with content is measured when it is mapped",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "measure::page(hw, vm, ipa, frame);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    honest = arena.measured()
    assert arena.measured(content=None) != honest, "a VM measures alike without its program"
