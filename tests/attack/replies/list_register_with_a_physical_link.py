"""The host links a virtual interrupt to a physical one, which the VM then deactivates."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PENDING, GROUP1 = 1 << 62, 1 << 60


@attack(
    by="host",
    against="P7",
    refused="a list register with HW set is refused",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "let allowed = LIST_STATE",
        "let allowed = 1 << 61 | 0x1fff << 32 | LIST_STATE",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for value in (PENDING | GROUP1 | 1 << 61 | 40 | number << 32 for number in (0, 25, 27, 30, 40)):
        for register in ("lr0", "lr1", "lr2"):
            answer = arena.status("vcpu_run", vcpu=victim.context, **{register: value})
            assert answer == "BAD_REPLY", (
                f"{register} = {value:#x} is taken: a VM can end interrupts of the machine"
            )
