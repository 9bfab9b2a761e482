"""The host reads a block that a dead VM had."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P6",
    refused="a block is zeroed before the host has it again",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.zero_block(block);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    for offset in (0, BLOCK // 2, BLOCK - PAGE):
        arena.backend.poke(block + offset, victim.content)
    victim.vm.kill()
    arena.machine.ok("reclaim_block", block=block)
    for offset in (0, BLOCK // 2, BLOCK - PAGE):
        assert arena.read(block + offset, PAGE) == bytes(PAGE), (
            "the host reads what a dead VM has left in a block"
        )
