"""The host reads and programs the flash, whose content outlives the boot."""

from attack.arena import Arena
from attack.bus_masters import DEVICES
from bulkhead.attack import Edit, attack
from bulkhead.image.memory_map import device


@attack(
    by="device",
    against="P5",
    refused="no leaf of the host's stage 2 leads there",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        '"FLASH", 0x0000_0000, 0x0800_0000, Use.WITHHELD',
        '"FLASH", 0x0000_0000, 0x1_0000, Use.HOST',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    arena.unreachable(device("FLASH").base + 0, "FLASH")
