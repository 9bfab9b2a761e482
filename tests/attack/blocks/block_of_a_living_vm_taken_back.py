"""The host takes a block back from a VM that lives."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="only dying VMs give blocks back",
    removed=Edit(
        "engine/core/src/call/reclaim_block.rs",
        "if vm::state(hw, record.vm()) != State::DYING {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    assert arena.status("reclaim_block", block=block) == "BAD_STATE", "a living VM has lost a block"
