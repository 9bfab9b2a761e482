"""The host maps a block where a VM has pages, or pages where it has a block."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="the level 2 entry is in use",
    removed=Edit(
        "engine/core/src/call/map_block.rs",
        "if hw.table_entry(level2, slot) & stage2::VALID != 0 {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("map_block", vm=victim.slot, ipa=RAM, block=arena.machine.take_block())
    assert answer == "ALREADY_MAPPED", "the pages of a VM have gone under a block"
    victim.vm.block(RAM + BLOCK)
    answer = arena.map(victim.slot, RAM + BLOCK, arena.take())
    assert answer == "ALREADY_MAPPED", "a page lies over a VM's block"
