"""The host moves the program counter of a VM that runs."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the entry is set while the VM is under construction, once",
    removed=Edit(
        "engine/core/src/call/vcpu_set_entry.rs",
        "if vm::state(hw, record.vm()) != State::BUILDING || record.run_state() != RunState::OFF {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("vcpu_set_entry", vcpu=victim.context, entry=RAM + 8, context=7)
    assert answer == "BAD_STATE", "the host has moved the program counter of a VM"
