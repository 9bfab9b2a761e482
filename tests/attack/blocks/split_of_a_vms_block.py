"""The host splits a VM's block for itself, so that its frames are the host's."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="host_split takes blocks of the host only",
    removed=removals.BLOCK_RECORD,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    answer = arena.status("host_split", block=block, table=arena.take())
    assert answer == "NOT_OWNED", "the host has the frames of a VM's block"
