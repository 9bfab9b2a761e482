"""The host gives a page after the start with content that the VM has not measured."""

from attack.arena import SECRET, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P5",
    refused="a page that is added later is zeroed",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "hw.zero_frame(frame);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n add x20, x20, #0x1000\n ldr x0, [x20]\n report x0\n 1: wfi\n b 1b")
    assert victim.run().name == "MEM_FAULT"
    frame = arena.take(b"poisoned" * 512)
    assert arena.map(victim.slot, SECRET + PAGE, frame) == "SUCCESS"
    assert victim.reports() == [0], "a VM finds in its memory what the host has chosen"
