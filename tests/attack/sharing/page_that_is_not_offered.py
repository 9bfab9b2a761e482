"""The host accepts a page that the VM has not offered."""

from attack.arena import SECRET, Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the record of the page says to what extent the VM shares it",
    removed=Edit(
        "engine/core/src/call/share_accept.rs",
        "if record.sharing() != sharing {",
        "if record.sharing() == Sharing::ACCEPTED && sharing == Sharing::OFFERED {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("share_accept", vm=victim.slot, ipa=SECRET)
    assert answer == "BAD_STATE", f"the host has mapped a private page of a VM: {answer}"
    arena.unreachable(victim.page, "a private page")
