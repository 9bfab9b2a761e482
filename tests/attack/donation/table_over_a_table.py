"""The host donates an empty table where a VM has one: its pages vanish, others can be put there."""

from attack.arena import RAM, SECRET, Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the entry of the upper table is in use",
    source="page remapping, SEVered, EuroSec 2018",
    removed=Edit(
        "engine/core/src/call/table_donate.rs",
        "if hw.table_entry(parent, slot) & stage2::VALID != 0 {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for level in (2, 3):
        answer = arena.status("table_donate", vm=victim.slot, ipa=RAM, level=level, table=arena.take())
        assert answer == "ALREADY_MAPPED", f"the level {level} table of a VM has been exchanged"
    assert arena.machine.vm_walk(victim.slot, SECRET) == victim.page
