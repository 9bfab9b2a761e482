"""The host goes on storing to a shared page from another CPU while the VM takes it back."""

from attack.arena import Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="TLBI of the host's VMID on all CPUs, completed, before unshare returns",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    p.invalidate_host_page_from_vm(frame);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}\n call 0xc6000004, {SHARED:#x}")
    page = accepted(arena, victim)
    arena.begin(f"ldr x0, ={page:#x}\n 1: add x1, x1, #1\n str x1, [x0]\n again 1b")
    arena.wait(lambda: any(arena.machine.physical(page, 8)), "the other CPU to store")
    assert victim.run().name == "SHARE"
    arena.stopped(1, "stores to a page that is private again")
