"""The host gives a VM a block with content of its choice, unmeasured."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P5",
    refused="a block is always zeroed",
    removed=Edit(
        "engine/core/src/call/map_block.rs",
        "    hw.zero_block(block);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine)
    vm.table(2)
    block = arena.machine.take_block()
    for offset in (0, BLOCK // 2, BLOCK - PAGE):
        arena.write(block + offset, b"poison" * 600)
    arena.machine.ok("map_block", vm=vm.slot, ipa=RAM, block=block)
    assert not any(arena.machine.physical(block, BLOCK)), "a VM finds in its memory what the host has chosen"
