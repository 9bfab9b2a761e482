"""A VM gives back a page that the host has accepted: the host has it twice, or never scrubbed."""

from attack.arena import Arena
from attack.removals import SCRUB
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.inspect.records import Kind


@attack(
    by="vm",
    against="P4",
    refused="relinquish clears the host's leaf first, then zeroes, then gives the page back",
    removed=SCRUB,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}\n call 0xc6000045, {SHARED:#x}")
    page = accepted(arena, victim)
    arena.write(page, b"the host's own")
    assert victim.run().name == "SHARE"
    assert arena.owner(page) == Kind.HOST
    assert arena.read(page, PAGE) == bytes(PAGE), "a page comes back with content"
    assert arena.status("share_release", vm=victim.slot, ipa=SHARED) != "SUCCESS", (
        "the host has released its own page"
    )
