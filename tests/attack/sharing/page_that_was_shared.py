"""The host keeps its mapping of a page that the VM has taken back."""

from attack.arena import Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="unshare clears the host's leaf and its TLBs before it returns",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    p.set_table_entry(host_table(p, frame), frame.slot(), 0);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}\n call 0xc6000004, {SHARED:#x}")
    page = accepted(arena, victim)
    assert victim.run().name == "SHARE"
    arena.aborts(f"ldr x0, ={page:#x}\n ldr x1, [x0]", "a page that is private again")
