"""The host plugs a listed device where the SMMU does not expect it."""

from contextlib import suppress

from attack.arena import Arena
from boot.devices import pci
from boot.devices.bus import load
from bulkhead.attack import Machine, attack
from bulkhead.conformance import HostFault


@attack(
    by="device",
    against="P5",
    refused="pages are mapped at boot, for functions of bus 0 that were there",
    machine=Machine(devices=("pcie-root-port,id=below,chassis=1",)),
)
def carry_out(arena: Arena) -> None:
    qmp = arena.backend.machine.qmp
    arena.machine.needs_reset = True
    qmp.execute("device_add", driver="edu", bus="below", id="late")
    for bus in (1, 2, 255):
        with suppress(HostFault):
            value = load(arena, pci.page(0, bus=bus))
            raise AssertionError(f"a function behind a bridge reads {value:#x}")
