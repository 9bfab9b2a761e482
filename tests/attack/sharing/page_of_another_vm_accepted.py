"""The host accepts, in the name of one VM, a page that another offers, or at an address that only the other has."""

from attack.arena import SECRET, Arena
from attack.sharer import SHARED, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the page is found by the VM's own tables",
    removed=Edit(
        "engine/core/src/call/share_accept.rs",
        "level3_table(hw, vm, ipa)?",
        "level3_table(hw, crate::addr::VmId(0), ipa)?",
    ),
)
def carry_out(arena: Arena) -> None:
    victim, other = sharer(arena, f"call 0xc6000003, {SHARED:#x}"), arena.victim(slot=1)
    assert victim.run().name == "SHARE"
    for slot, ipa in (
        (other.slot, SHARED),
        (other.slot, SECRET),
        (victim.slot, SECRET),
        (9, SHARED),
        (64, SHARED),
    ):
        answer = arena.status("share_accept", vm=slot, ipa=ipa)
        assert answer != "SUCCESS", f"the host has accepted {ipa:#x} of VM {slot}"
