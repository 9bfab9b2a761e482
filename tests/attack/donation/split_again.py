"""The host splits a block again in which a VM has pages: every frame of it would be the host's."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="the block is split already",
    removed=removals.BLOCK_RECORD,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    answer = arena.status("host_split", block=victim.page & -BLOCK, table=arena.take())
    assert answer == "ALREADY_MAPPED", "the frames of VMs are the host's again"
