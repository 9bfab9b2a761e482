"""The host injects the interrupt of the virtual timer, which the engine delivers: it would be there twice."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P5",
    refused="INTID 27 is the engine's",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "&& intid != TIMER_INTID",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for value in (PENDING | GROUP1 | 27, 1 << 63 | GROUP1 | 27):
        for register in ("lr0", "lr1", "lr2"):
            answer = arena.status("vcpu_run", vcpu=victim.context, **{register: value})
            assert answer == "BAD_REPLY", f"{register} = {value:#x} is taken: the timer's"
