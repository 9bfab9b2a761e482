"""The host sets bits of the control word that have no meaning yet."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P3",
    refused="reserved bits of the control word must be zero",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "if control & !allowed == 0 {",
        "if control & !allowed != u64::MAX {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for bit in (3, 7, 16, 32, 63):
        answer = arena.status("vcpu_run", vcpu=victim.context, control=1 << bit)
        assert answer == "BAD_REPLY", f"bit {bit} of the control word is taken"
