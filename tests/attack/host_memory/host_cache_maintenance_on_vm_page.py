"""The host throws away what a VM has written by invalidating its cache lines, before they reach memory."""

from contextlib import suppress

from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.conformance import HostFault


@attack(
    by="host",
    against="P5",
    refused="stage 2 faults cache maintenance by address; DC IVAC becomes a clean where it is allowed",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for operation in ("dc ivac", "dc cvac", "dc civac"):
        with suppress(HostFault):
            arena.host(f"ldr x0, ={victim.page:#x}\n {operation}, x0\n dsb sy")
    assert arena.machine.physical(victim.page) == victim.content, "cache maintenance changed a VM's page"
    assert victim.run().name == "WFI"
