"""A victim that shares a page. Trust label: TOOL."""

from __future__ import annotations

from attack.arena import SECRET, Arena, Victim
from bulkhead.conformance.backends.backend import PAGE

SHARED = SECRET + PAGE


def sharer(arena: Arena, program: str) -> Victim:
    """A VM with a page at SHARED, which its program shares."""
    victim = arena.victim(f"{program}\n 1: wfi\n b 1b")
    victim.vm.page(SHARED)
    return victim


def accepted(arena: Arena, victim: Victim) -> int:
    """The VM offers its page, the host accepts it: its frame."""
    assert victim.run().name == "SHARE"
    return arena.machine.ok("share_accept", vm=victim.slot, ipa=SHARED).results["frame"]
