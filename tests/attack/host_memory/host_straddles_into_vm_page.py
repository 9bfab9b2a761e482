"""The host loads and stores across the edge of its own page into one of a VM, by accesses that are not aligned."""

from attack import removals
from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P5",
    refused="the host's stage 2 leaf is cleared before the page changes hands",
    removed=removals.HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    below, page, above = (arena.take() for _ in range(3))
    assert (below + PAGE, page + PAGE) == (page, above), "the host's frames do not lie side by side"
    assert arena.map(vm.slot, RAM, page) == "SUCCESS"
    for place in (page - 5, above - 3):
        for access in ("ldr x1, [x0]", "str x1, [x0]", "ldp x1, x2, [x0]", "stp x1, x2, [x0]"):
            program = f"ldr x0, ={place:#x}\n mov x1, #-1\n mov x2, x1\n {access}"
            arena.aborts(program, f"`{access}` across the edge of a VM's page")
    assert not any(arena.machine.physical(page)), "half a store has reached a VM's page"
