"""The host gives the redistributor a pending table in a VM's page and in the engine, and turns LPIs on."""

from attack.arena import Arena
from attack.bus_masters import DEVICES
from boot.devices.bus import load, store
from bulkhead.attack import Edit, attack
from bulkhead.image.memory_map import device

CTLR, PROPBASER, PENDBASER = 0x00, 0x70, 0x78


@attack(
    by="device",
    against="P7",
    refused="RD_base of the redistributors is the engine's",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        'Device("GICR_RD", 0x080A_0000, 0x1_0000, Use.ENGINE',
        'Device("GICR_RD", 0x080A_0000, 0x1_0000, Use.BOTH',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    base = device("GICR_RD").base

    def strike(target: int) -> None:
        store(arena, base + PROPBASER, target | 13, 8)
        store(arena, base + PENDBASER, target & -0x10000, 8)
        assert load(arena, base + PENDBASER, 8) == 0, "the host has set GICR_PENDBASER"
        store(arena, base + CTLR, 1)

    arena.withstands(victim, strike, "a redistributor")
