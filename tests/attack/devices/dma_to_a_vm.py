"""The host lets a DMA engine write to a VM's page, to the engine, and to its own RAM where it has opened nothing."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="device",
    against="P7",
    refused="the SMMU translates by tables that map windows only",
    removed=Edit(
        "engine/image/src/smmu.rs",
        "const STAGE_2_ONLY: u64 = 0b110 << 1;",
        "const STAGE_2_ONLY: u64 = 0b100 << 1;",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work, closed = arena.window(opened=True), arena.window()
    engine = edu.Edu(pci.function(arena, EDU))
    arena.write(work, b"forged".ljust(64))
    engine.copy(work, work + PAGE, 64)
    assert arena.read(work + PAGE, 6) == b"forged", "DMA does not work in its window"
    victim = arena.victim()
    arena.withstands(victim, lambda target: engine.copy(work, target, 64), "DMA")
    engine.copy(work, closed, 64)
    assert not any(arena.read(closed, 64)), "DMA has reached RAM that is no window"
