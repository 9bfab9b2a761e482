"""The host plugs a listed device where the SMMU does not expect it."""

from contextlib import suppress

from attack.arena import Arena
from boot.devices import pci
from boot.devices.bus import load
from bulkhead.attack import Edit, Machine, attack
from bulkhead.conformance import HostFault


@attack(
    by="device",
    against="P5",
    refused="pages are mapped at boot, for functions of bus 0 that were there",
    removed=Edit(
        "engine/image/src/host_stage2.rs",
        "for page in listed.pages() {",
        "let bus_1 = platform::PCIE_ECAM.base + (1 << 20);\n"
        "    for page in listed.pages().chain((bus_1..bus_1 + (1 << 20)).step_by(4096)) {",
    ),
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
