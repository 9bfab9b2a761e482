"""The host fills registers of its own, so that a VM starts with them."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack

GENERAL = (*range(19, 27), *range(1, 17))
NAMES = ("tpidr_el0", "tpidrro_el0", "sp_el0", "elr_el1", "spsr_el1", "cntv_cval_el0", "nzcv")


@attack(
    by="host",
    against="P5",
    refused="a vCPU starts with the registers of its context, which are zero at first",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    load_switched sp\n    general ld",
        "    load_switched sp\n    caller_saved ld",
    ),
)
def carry_out(arena: Arena) -> None:
    told = [
        *(f"str x{n}, [x17]" for n in GENERAL),
        *(f"mrs x0, {name}\n str x0, [x17]" for name in NAMES),
    ]
    victim = arena.victim("ldr x17, =" + f"{DEVICE:#x}\n" + "\n".join(told))
    fill = "\n".join(f"ldr x{n}, =0x00c5c0de1030f000" for n in range(7, 29))
    own = "\n".join(f"msr {name}, x9" for name in NAMES)
    seen = arena.host(f"""
        stp     x19, x20, [sp, #-16]!
        stp     x27, x28, [sp, #-16]!
        {fill}
        {own}
        vcpu_run {victim.context:#x}
        ldp     x27, x28, [sp], #16
        ldp     x19, x20, [sp], #16
        result  0, x1
        result  1, x4
    """)
    values = [seen[1]] + [exit_.data[2] for exit_ in (victim.run() for _ in told[1:])]
    names = [*(f"x{n}" for n in GENERAL), *NAMES]
    found = {
        name: hex(value)
        for name, value in zip(names, values, strict=True)
        if value & 0xFFFF_F000 == 0x1030_F000
    }
    assert not found, f"a VM has started with registers of the host: {found}"
