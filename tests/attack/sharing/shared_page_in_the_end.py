"""The host kills a VM that shares a page with it, and keeps the page out of the scrub."""

from attack.arena import Arena
from attack.removals import SCRUB
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P4",
    refused="reclaim takes an accepted page out of the host's stage 2, zeroes it, and only then gives it back",
    removed=SCRUB,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    page = accepted(arena, victim)
    arena.write(page, b"the host's own")
    victim.vm.kill()
    answer = arena.status("share_release", vm=victim.slot, ipa=SHARED)
    assert answer == "BAD_STATE", f"the host has released a page of a dead VM: {answer}"
    arena.machine.ok("reclaim", frame=page)
    assert arena.read(page, PAGE) == bytes(PAGE), "a page comes back from a dead VM with content"
