"""The host uses a page that it has released."""

from attack import removals
from attack.arena import Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="share_release clears the host's leaf and its TLBs",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    page = accepted(arena, victim)
    arena.machine.ok("share_release", vm=victim.slot, ipa=SHARED)
    arena.aborts(f"ldr x0, ={page:#x}\n str x0, [x0]", "a page that the host has released")
