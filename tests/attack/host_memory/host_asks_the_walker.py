"""The host lets the hardware translate for it (`AT`): its own regime shows nothing of a VM, that of EL2 is not its."""

from attack.arena import SECRET, Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="AT for EL2 and stage 2 is UNDEFINED at EL1; AT at EL1 translates in the host's own regime",
    irremovable="the architecture refuses by itself",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    for operation in ("at s12e1r", "at s12e1w", "at s1e2r", "at s12e0r"):
        arena.undefined(f"ldr x0, ={victim.page:#x}\n {operation}, x0", f"`{operation}` by the host")
    own = arena.host(f"ldr x0, ={SECRET:#x}\n at s1e1r, x0\n isb\n mrs x1, par_el1\n result 0, x1")[0]
    assert own & 0x000F_FFFF_FFFF_F000 in (0, SECRET), f"AT S1E1R says {own:#x} for an address of a VM"
