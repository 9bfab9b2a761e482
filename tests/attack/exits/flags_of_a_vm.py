"""The host looks at its condition flags and other bits of PSTATE after an exit, for those of the VM."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

FIELDS = {"NZCV": ("nzcv", 0xF << 28), "PAN": ("S3_0_C4_C2_3", 1 << 22), "UAO": ("S3_0_C4_C2_4", 1 << 23)}
"""Register and bits that the VM sets; Arm ARM DDI 0487, C5.2."""


@attack(
    by="host",
    against="P6",
    refused="the host's own PSTATE is restored from what it had at its call",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    msr     spsr_el2, x7\n",
        "    mrs     x13, spsr_el2\n    and     x13, x13, #0xf0000000\n    orr     x7, x7, x13\n"
        "    msr     spsr_el2, x7\n",
    ),
)
def carry_out(arena: Arena) -> None:
    write = "\n".join(f"ldr x0, ={bits:#x}\n msr {name}, x0" for name, bits in FIELDS.values())
    victim = arena.victim(f"{write}\n 1: wfi\n b 1b")
    clear = "\n".join(f"msr {name}, xzr" for name, _ in FIELDS.values())
    read = "\n".join(f"mrs x0, {name}\n result {n + 2}, x0" for n, (name, _) in enumerate(FIELDS.values()))
    seen = arena.host(f"{clear}\n vcpu_run {victim.context:#x}\n {read}\n result 0, x1")
    assert seen[0] == 1
    found = {name: hex(value) for name, value in zip(FIELDS, seen[2:], strict=False) if value}
    assert not found, f"the host has bits of the VM's PSTATE: {found}"
