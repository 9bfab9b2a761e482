"""The host pends, disables and regroups the interrupts by which the engine serves VMs."""

from attack.arena import Arena
from boot.devices.bus import store
from bulkhead.attack import attack
from bulkhead.image.memory_map import device


@attack(
    by="host",
    against="P2",
    refused="the engine takes them as they come; a VM loses time, nothing else",
    irremovable="nothing refuses: the engine serves them",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    frame = device("GICR_SGI").base
    both = 1 << 25 | 1 << 27
    for register, value in (
        (0x200, both),
        (0x300, both),
        (0x380, both),
        (0x180, both),
        (0x080, 0),
        (0x100, both),
    ):
        store(arena, frame + register, value)
        exit_ = arena.machine.ok("vcpu_run", vcpu=victim.context)
        assert exit_.results["class"] in (0, 1, 6), f"after {value:#x} in {register:#x}: {exit_}"
    store(arena, frame + 0x280, both)
    store(arena, frame + 0x380, both)
    store(arena, frame + 0x080, 0xFFFF_FFFF)
