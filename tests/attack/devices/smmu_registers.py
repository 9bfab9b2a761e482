"""The host turns the SMMU off, or gives it tables of its own."""

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
        '"SMMU", 0x0905_0000, 0x1000, Use.ENGINE',
        '"SMMU", 0x0905_0000, 0x1000, Use.BOTH',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    arena.unreachable(device("SMMU").base + 0x20, "SMMU")
