"""The host splits a VM's block with a table of its own that maps the block for it."""

import struct

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P7",
    refused="the host's new table is zeroed",
    removed=Edit(
        "engine/core/src/call/vm_split.rs",
        "    hw.zero_frame(host_table);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    leaves = struct.pack("<512Q", *(block + n * PAGE | 0x7FF for n in range(512)))
    host_table = arena.take(leaves)
    arena.machine.ok("vm_split", block=block, table=arena.take(), host_table=host_table)
    arena.aborts(f"ldr x0, ={block + PAGE:#x}\n ldr x1, [x0]", "a page of a VM's block")
