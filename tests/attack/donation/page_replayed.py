"""The host puts back what a page of a VM held earlier, when the VM has given it up (replay of memory)."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE

PLACE = RAM + 5 * PAGE


@attack(
    by="host",
    against="P5",
    refused="in a sealed VM a new page is zero, whatever the frame held",
    source="Hetzelt and Buhren, VEE 2017",
    removed=Edit("engine/core/src/call/map.rs", "        hw.zero_frame(frame);\n", ""),
)
def carry_out(arena: Arena) -> None:
    look = f"ldr x20, ={PLACE:#x}\n ldr x0, [x20]\n report x0"
    victim = arena.victim(f"{look}\n call 0xc6000045, {PLACE:#x}\n {look}\n 1: wfi\n b 1b")
    victim.vm.page(PLACE)
    assert victim.reports() == [0]
    assert victim.run().name == "SHARE"
    old = arena.take((0x01D).to_bytes(8, "little"))
    assert arena.map(victim.slot, PLACE, old, 1) == "BAD_STATE", "the host has put content into a sealed VM"
    assert victim.run().name == "MEM_FAULT"
    assert arena.map(victim.slot, PLACE, old) == "SUCCESS"
    found = victim.reports()[0]
    assert found == 0, f"a VM finds {found:#x} again, which its page held before"
