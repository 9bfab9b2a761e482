"""The host throws cache lines away by set and way, whatever page they are of, before memory has a VM's stores."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="cache maintenance by set and way traps and is UNDEFINED",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "| hcr::DC | registers::HCR_HOST;",
        "| hcr::DC | registers::HCR_HOST & !(1 << 22);  // TSW",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for operation in ("dc isw", "dc csw", "dc cisw"):
        arena.undefined(f"mov x0, xzr\n {operation}, x0\n dsb sy", f"`{operation}`")
    assert victim.run().name == "WFI"
