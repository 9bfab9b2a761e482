"""The host updates a page of a VM by atomic instructions, which load and store at once."""

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
    for instruction in (
        "ldadd x1, x2, [x0]",
        "swp x1, x2, [x0]",
        "cas x1, x2, [x0]",
        "ldset w1, w2, [x0]",
        "ldxr x2, [x0]\n stxr w3, x1, [x0]",
        "casp x2, x3, x4, x5, [x0]",
    ):
        program = f"ldr x0, ={victim.page:#x}\n mov x1, #-1\n {instruction}"
        arena.aborts(program, f"`{instruction.splitlines()[0]}` on a VM's page")
