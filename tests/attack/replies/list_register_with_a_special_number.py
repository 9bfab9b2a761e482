"""The host injects numbers that mean something else (1020 to 1023), or LPIs, which the VM does not have."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P5",
    refused="the INTID must be below 1020",
    source="injected interrupts: Heckler, USENIX Security 2024",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "&& intid < FIRST_SPECIAL_INTID",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for value in (PENDING | GROUP1 | intid for intid in (1020, 1021, 1022, 1023, 1024, 8192, 0xFFFF_FFFF)):
        for register in ("lr0", "lr1", "lr2"):
            answer = arena.status("vcpu_run", vcpu=victim.context, **{register: value})
            assert answer == "BAD_REPLY", f"{register} = {value:#x} is taken: no such interrupt"
