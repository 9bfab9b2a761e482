"""The host throws away what a VM has written by invalidating its cache lines, before they reach memory."""

from contextlib import suppress

from attack.arena import Arena
from attack.removals import HOST_LEAF
from bulkhead.attack import attack
from bulkhead.conformance import HostFault


@attack(
    by="host",
    against="P5",
    refused="stage 2 faults cache maintenance by address; DC IVAC becomes a clean where it is allowed",
    removed=HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for operation in ("dc ivac", "dc cvac", "dc civac"):
        with suppress(HostFault):
            arena.host(f"ldr x0, ={victim.page:#x}\n {operation}, x0\n dsb sy")
    # Of these QEMU translates the address of one only, DC CVAP: it has no caches.
    arena.aborts(f"ldr x0, ={victim.page:#x}\n sys #3, c7, c12, #1, x0", "cache maintenance on a VM's page")
    assert arena.machine.physical(victim.page) == victim.content, "cache maintenance changed a VM's page"
    assert victim.run().name == "WFI"
