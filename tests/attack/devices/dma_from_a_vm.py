"""The host lets a DMA engine read a VM's page and the engine, and looks at what it has read."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="device",
    against="P6",
    refused="the SMMU translates by tables that map windows only",
    removed=Edit(
        "engine/image/src/smmu.rs",
        "const STAGE_2_ONLY: u64 = 0b110 << 1;",
        "const STAGE_2_ONLY: u64 = 0b100 << 1;",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window(opened=True)
    engine = edu.Edu(pci.function(arena, EDU))
    victim = arena.victim()
    for name, target in {"a VM's page": victim.page, **arena.engine_frames}.items():
        secret = arena.machine.physical(target, 64)
        engine.copy(work + 2 * PAGE, work + PAGE, 64)
        engine.copy(target, work + PAGE, 64)
        assert not any(secret) or arena.read(work + PAGE, 64) != secret, f"DMA has read {name}"
