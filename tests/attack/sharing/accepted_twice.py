"""The host accepts one page twice, to have it once when it is gone."""

from attack.arena import Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P4",
    refused="the record says that it is accepted",
    removed=Edit(
        "engine/core/src/call/share_accept.rs",
        "if record.sharing() != sharing {",
        "if record.sharing() == Sharing::PRIVATE {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    accepted(arena, victim)
    assert arena.status("share_accept", vm=victim.slot, ipa=SHARED) == "BAD_STATE", "a page is accepted twice"
    arena.machine.ok("share_release", vm=victim.slot, ipa=SHARED)
    assert arena.status("share_release", vm=victim.slot, ipa=SHARED) == "BAD_STATE", (
        "a page is released twice"
    )
