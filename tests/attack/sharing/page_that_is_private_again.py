"""The host accepts a page after the VM has taken it back."""

from attack.arena import Arena
from attack.sharer import SHARED, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="unshare makes the record private",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    p.set_frame_record(frame, record.with_sharing(Sharing::PRIVATE));\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}\n call 0xc6000004, {SHARED:#x}")
    assert victim.run().name == victim.run().name == "SHARE"
    answer = arena.status("share_accept", vm=victim.slot, ipa=SHARED)
    assert answer == "BAD_STATE", "the host has accepted a page that is private again"
