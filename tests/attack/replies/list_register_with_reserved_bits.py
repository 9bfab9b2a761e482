"""The host sets reserved bits of a list register."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P5",
    refused="all bits but state, group, priority, EOI and INTID must be zero",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "let is_sound = value & !allowed == 0",
        "let is_sound = value & !allowed != u64::MAX",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for value in (PENDING | GROUP1 | 40 | 1 << bit for bit in (32, 40, 42, 44, 45, 47, 56, 59)):
        for register in ("lr0", "lr1", "lr2"):
            answer = arena.status("vcpu_run", vcpu=victim.context, **{register: value})
            assert answer == "BAD_REPLY", f"{register} = {value:#x} is taken: reserved"
