"""A VM shares and unshares while a CPU of the host is in the middle of changing ownership."""

from attack.arena import Arena
from attack.sharer import SHARED, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P3",
    refused="where the lock is taken nothing happens, and the VM repeats its call",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "if !p.try_lock() {",
        "if !p.try_lock() && function == 0 {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    with arena.machine.locked():
        reply = arena.machine.ok("vcpu_run", vcpu=victim.context)
        assert reply.results["class"] == 0, f"a VM has shared a page under another's lock: {reply}"
    assert victim.run().name == "SHARE"
