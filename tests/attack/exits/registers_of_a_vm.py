"""The host looks at all its registers after an exit, for those of the VM."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the host's registers are loaded before it runs",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    zero_switched\n    general ld",
        "    zero_switched\n    caller_saved ld",
    ),
)
def carry_out(arena: Arena) -> None:
    loads = "\n".join(f"ldr x{n}, [x20]" for n in (*range(20), *range(21, 31)))
    victim = arena.victim(f"secret x20\n {loads}\n ldr x20, [x20]\n mov sp, x20\n 1: wfi\n b 1b")
    seen = arena.host(f"""
        vcpu_run {victim.context:#x}
        str     x18, [sp, #-16]!
        {chr(10).join(f"result {n}, x{n}" for n in (*range(17), *range(19, 31)))}
        ldr     x0, [sp], #16
        result  30, x0
    """)
    assert seen[:2] == [0, 1]
    secret = int.from_bytes(victim.marker[:8], "little")
    assert secret not in seen, f"register {seen.index(secret)} of the host holds that of a VM"
