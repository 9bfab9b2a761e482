"""The host looks for PCIe functions that are not listed: other slots, other functions, other buses."""

from contextlib import suppress

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU, NVME
from boot.devices import pci
from boot.devices.bus import load
from bulkhead.attack import Edit, attack
from bulkhead.conformance import HostFault
from bulkhead.image.memory_map import device


@attack(
    by="device",
    against="P5",
    refused="only the configuration pages of listed functions are in the host's stage 2",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        '    PciFunction("EDU"',
        '    PciFunction("RNG", 0x1AF4, 0x1005, ""),\n    PciFunction("EDU"',
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    places = [pci.page(slot) for slot in range(32) if slot not in (EDU, NVME)]
    places += [pci.page(EDU, 1), pci.page(0, bus=1), pci.page(0, bus=255), device("PCIE_ECAM_LOW").base]
    for place in places:
        with suppress(HostFault):
            value = load(arena, place)
            raise AssertionError(f"the configuration page at {place:#x} reads {value:#x}")
