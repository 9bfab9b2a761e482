"""The host gives a frame inside a VM's block to another VM, or makes it a table."""

from attack.arena import RAM, Arena
from attack.removals import FRAME_OF_ANY_BLOCK
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P5",
    refused="the records of block and frame say whose it is",
    removed=FRAME_OF_ANY_BLOCK,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    other = Vm(arena.machine, 1).cover()
    for frame in (block, block + 100 * PAGE, block + BLOCK - PAGE):
        assert arena.map(other.slot, RAM, frame) == "NOT_OWNED", "two VMs have one frame"
        assert arena.status("reclaim", frame=frame) == "NOT_OWNED", "the host takes single frames of a block"
        answer = arena.status("table_donate", vm=1, ipa=RAM + BLOCK, level=3, table=frame)
        assert answer == "NOT_OWNED", "a frame of a VM's block is a table"
