"""The host reads its system registers after an exit, for those of the VM."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

NAMES = (
    "tpidr_el0",
    "tpidrro_el0",
    "sp_el0",
    "elr_el1",
    "spsr_el1",
    "esr_el1",
    "far_el1",
    "par_el1",
    "cntv_cval_el0",
)


@attack(
    by="host",
    against="P6",
    refused="EL1 registers are the host's or zero before it runs",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    zero_switched\n    general ld",
        "    general ld",
    ),
)
def carry_out(arena: Arena) -> None:
    writes = "\n".join(f"msr {name}, x19" for name in NAMES)
    victim = arena.victim(f"secret x20\n ldr x19, [x20]\n {writes}\n 1: wfi\n b 1b")
    reads = "\n".join(f"mov x0, #0\n mrs x0, {name}\n result {n + 2}, x0" for n, name in enumerate(NAMES))
    seen = arena.host(f"""
        vcpu_run {victim.context:#x}
        result  0, x0
        result  1, x1
        {reads}
    """)
    assert seen[:2] == [0, 1]
    secret = int.from_bytes(victim.marker[:8], "little")
    for name, value in zip(NAMES, seen[2:], strict=False):
        known = value >> 48 == secret >> 48 or value & 0xFFFF == secret & 0xFFFF
        assert value == 0 or not known, f"{name} is {value:#x}, of which a VM has written a part"
