"""The host takes a page back from a VM that lives."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="only dying VMs give pages back",
    source="page faults as a side channel: controlled channels, S&P 2015",
    removed=Edit(
        "engine/core/src/call/reclaim.rs",
        "if vm::state(hw, record.vm()) != State::DYING {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for name, frame in {"a page": victim.page, "a vCPU": victim.context}.items():
        assert arena.status("reclaim", frame=frame) == "BAD_STATE", f"a living VM has lost {name}"
