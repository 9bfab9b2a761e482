"""The host reads and writes a 2 MiB block that it has given to a VM."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P5",
    refused="the host's level 2 entry is cleared and TLBs invalidated before the block changes hands",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.set_host_entry(block, 0);\n    hw.invalidate_host_page(block.first());",
        "    hw.invalidate_host_page(block.first());",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    for address in (block, block + BLOCK // 2, block + BLOCK - PAGE):
        arena.aborts(
            f"ldr x0, ={address:#x}\n str x0, [x0]", f"a store {address - block:#x} into a VM's block"
        )
