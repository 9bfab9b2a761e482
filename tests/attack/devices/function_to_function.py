"""The host lets one function read and write the registers of another, past the windows."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU, NVME
from boot.devices import edu, nvme, pci
from boot.devices.bus import load, store
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE

VERSION = 0x08


@attack(
    by="device",
    against="P7",
    refused="the SMMU translates what goes from function to function too, and BARs are in no window",
    removed=Edit(
        "engine/image/src/smmu.rs",
        "const STAGE_2_ONLY: u64 = 0b110 << 1;",
        "const STAGE_2_ONLY: u64 = 0b100 << 1;",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window(opened=True)
    engine, drive = edu.Edu(pci.function(arena, EDU)), nvme.Nvme(pci.function(arena, NVME))
    version = arena.read(drive.base + VERSION, 4)
    engine.copy(drive.base + VERSION, work, 4)
    assert arena.read(work, 4) != version, "one function has read another's registers"
    store(arena, drive.base + nvme.SUBMISSION, work, 8)
    arena.write(work, (work + PAGE).to_bytes(8, "little"))
    engine.copy(work, drive.base + nvme.SUBMISSION, 8)
    assert load(arena, drive.base + nvme.SUBMISSION, 8) == work, "one function has programmed another"
