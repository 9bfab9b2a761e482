"""The host lets a DMA engine write to registers that it cannot reach itself: fw_cfg's, the SMMU's, the GIC's."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU
from boot.devices import edu, fw_cfg, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.image.memory_map import device

SMMU_CR0, SMMU_GBPA = 0x20, 0x44
GITS_TRANSLATER = 0x1_0040
GICR_PENDBASER = 0x78


@attack(
    by="device",
    against="P7",
    refused="windows are RAM: no register of a device is in one, so the SMMU translates no address of theirs",
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

    arena.write(work + PAGE, fw_cfg.prepare(arena, work, victim.page))
    engine.read_ram(work + PAGE, 8)

    def strike(target: int) -> None:
        fw_cfg.prepare(arena, work, target)
        engine.write_ram(device("FW_CFG").base + fw_cfg.DMA_ADDRESS, 8)

    arena.withstands(victim, strike, "DMA by way of fw_cfg")
    registers = {
        "SMMU_CR0": device("SMMU").base + SMMU_CR0,
        "SMMU_GBPA": device("SMMU").base + SMMU_GBPA,
        "GICR_PENDBASER": device("GICR_RD").base + GICR_PENDBASER,
    }
    before = {name: arena.register(place) for name, place in registers.items()}
    for place in (*registers.values(), device("GIC_ITS").base + GITS_TRANSLATER):
        engine.message(place, 0)
        engine.write_ram(place, 4)
    after = {name: arena.register(place) for name, place in registers.items()}
    assert after == before, f"DMA has changed registers: {before} became {after}"
