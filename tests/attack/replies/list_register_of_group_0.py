"""The host injects an interrupt of group 0, a FIQ, which the VM expects from secure firmware only."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P5",
    refused="only group 1 is taken",
    source="injected interrupts: Heckler, USENIX Security 2024",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "&& value & LIST_GROUP1 != 0",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for value in (PENDING | 40, 1 << 63 | 40):
        for register in ("lr0", "lr1", "lr2"):
            answer = arena.status("vcpu_run", vcpu=victim.context, **{register: value})
            assert answer == "BAD_REPLY", f"{register} = {value:#x} is taken: a FIQ"
