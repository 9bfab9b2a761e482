"""The host puts one INTID into two list registers, which is UNPREDICTABLE."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P2",
    refused="no INTID twice",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "one != 0 && other != 0 && one & LIST_INTID == other & LIST_INTID",
        "one == 1 && other == 1",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    value = PENDING | GROUP1 | 40
    for first, second in (("lr0", "lr1"), ("lr0", "lr2"), ("lr1", "lr2")):
        lists = {first: value, second: value ^ 1 << 50}
        assert arena.status("vcpu_run", vcpu=victim.context, **lists) == "BAD_REPLY", (
            f"{first} and {second} are alike"
        )
