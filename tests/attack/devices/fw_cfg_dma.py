"""The host lets fw_cfg copy to a VM's page and to the engine by its DMA register."""

from attack.arena import Arena
from attack.bus_masters import DEVICES
from boot.devices import fw_cfg
from bulkhead.attack import Edit, attack


@attack(
    by="device",
    against="P7",
    refused="fw_cfg is in nobody's reach",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        '"FW_CFG", 0x0902_0000, 0x1000, Use.WITHHELD',
        '"FW_CFG", 0x0902_0000, 0x1000, Use.HOST',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window()
    victim = arena.victim()
    arena.withstands(victim, lambda target: fw_cfg.copy(arena, work, target), "fw_cfg")
