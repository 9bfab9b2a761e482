"""The host puts another frame under an address that a VM already uses."""

from attack.arena import SECRET, Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the level 3 entry is in use",
    source="page remapping, SEVered, EuroSec 2018",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "if hw.table_entry(level3, slot) & stage2::VALID != 0 {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    frame = arena.take(b"forged")
    answer = arena.map(victim.slot, SECRET, frame)
    assert answer == "ALREADY_MAPPED", "the page under an address of a VM has been exchanged"
    assert arena.machine.vm_walk(victim.slot, SECRET) == victim.page
