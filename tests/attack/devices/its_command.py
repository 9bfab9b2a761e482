"""The host lets the GIC write its device table to a VM's page and to the engine, by one command of the ITS."""

from attack.arena import Arena
from attack.bus_masters import DEVICES
from boot.devices import its
from bulkhead.attack import Edit, attack


@attack(
    by="device",
    against="P7",
    refused="the ITS is the engine's",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        "0x0808_0000, 0x1000, Use.ENGINE",
        "0x0808_0000, 0x1000, Use.BOTH",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window()
    victim = arena.victim()

    def strike(target: int) -> None:
        service = its.Its(arena)
        service.start(work, target)
        service.map_device(0, work)

    arena.withstands(victim, strike, "the ITS")
