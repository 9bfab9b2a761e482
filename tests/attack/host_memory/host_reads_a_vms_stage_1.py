"""The host reads the stage 1 tables of the VM that ran last, which stay in the CPU."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="reads of the translation registers trap and are UNDEFINED",
    removed=Edit(
        "engine/arch/src/registers.rs",
        "    | 1 << 30 // TRVM\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(
        "ldr x0, =0x00c5c0de1111000\n msr ttbr0_el1, x0\n msr ttbr1_el1, x0\n 1: wfi\n b 1b"
    )
    victim.run()
    for register in ("ttbr0_el1", "ttbr1_el1", "mair_el1", "contextidr_el1"):
        arena.undefined(f"mrs x0, {register}\n result 0, x0", f"a read of {register}")
