"""The host names frames by addresses that wrap, or with bits that no physical address has."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P1",
    refused="an address is checked as a whole before it becomes a frame number",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    let index = address.wrapping_sub(hw.ram_base()) >> FRAME_SHIFT;",
        "    let index = address.wrapping_sub(hw.ram_base()) << 16 >> 16 >> FRAME_SHIFT;",
    ),
)
def carry_out(arena: Arena) -> None:
    victim, vm = arena.victim(), Vm(arena.machine, 1).cover()
    frame = arena.take()
    for bit in range(48, 64):
        answer = arena.map(vm.slot, RAM, frame | 1 << bit)
        assert answer == "INVALID_ARGUMENT", f"bit {bit} of an address is ignored"
    for address in ((1 << 64) - PAGE, (1 << 63) - PAGE, arena.machine.layout.ram_base - PAGE):
        assert arena.map(vm.slot, RAM, address) == "INVALID_ARGUMENT", f"{address:#x} is a frame"
    arena.check(victim)
