"""The host writes to the engine's console: forged boot messages, forged panic dumps."""

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
        '"UART0", 0x0900_0000, 0x1000, Use.ENGINE',
        '"UART0", 0x0900_0000, 0x1000, Use.BOTH',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    arena.unreachable(device("UART0").base + 0, "UART0")
