"""A VM loads and stores at the physical addresses of host, engine and devices."""

from attack.arena import RAM, Arena
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P5",
    refused="a VM's stage 2 maps its own frames only: all else is an exit or an abort",
)
def carry_out(arena: Arena) -> None:
    reach = [0, 0x0800_0000, 0x0902_0000, 0x4800_0000, 0x5000_0000, (1 << 39) - 8]
    reach += [frame for frame in arena.engine_frames.values() if frame >= RAM + (16 << 20)]
    loads = "\n".join(f"ldr x1, ={address:#x}\n ldr x0, [x1]\n str x0, [x1]" for address in reach)
    victim = arena.victim(loads)
    for address in reach:
        for exit_ in (victim.run(), victim.run(0x1234)):
            assert exit_.name in ("MMIO_READ", "MMIO_WRITE"), f"a VM at {address:#x}: {exit_}"
            assert exit_.data[0] == address
