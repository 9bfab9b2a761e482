"""The host stores to a page of a VM."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for store in ("strb w1", "strh w1", "str w1", "str x1", "stlr x1", "stp x1, x2"):
        arena.aborts(f"ldr x0, ={victim.page:#x}\n mov x1, #1\n {store}, [x0]", f"`{store}` to a VM's page")
