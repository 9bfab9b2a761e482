"""The host reads the vector registers, which stay in the CPU after an exit."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="FP and vector instructions of the host trap",
    removed=Edit(
        "engine/arch/src/cpu.rs",
        "host.host_cptr.set(HOST_CPTR);",
        "host.host_cptr.set(HOST_CPTR & !CPTR_TFP);",
    ),
)
def carry_out(arena: Arena) -> None:
    enable = "mov x0, #3 << 20\n msr cpacr_el1, x0\n isb"
    victim = arena.victim(f"{enable}\n secret x20\n ldr q0, [x20]\n ldr q31, [x20]\n 1: wfi\n b 1b")
    assert victim.run().name == "WFI"
    for register in (0, 31):
        arena.undefined(f"{enable}\n mov x1, v{register}.d[0]\n result 0, x1", f"a read of V{register}")
