"""The host puts the BARs of its functions over a VM's page, the engine, its devices, and tries their sizes."""

from contextlib import suppress

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU, NVME
from boot.devices import edu, pci
from bulkhead.attack import attack
from bulkhead.conformance import HostFault
from bulkhead.image.memory_map import device

SIZING = 0xFFFF_FFFF
SMMU_CR0 = 0x20


@attack(
    by="device",
    against="P5",
    refused="a host bridge forwards its windows only: what a BAR claims elsewhere no CPU reaches",
    irremovable="the host bridge refuses by itself",
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work = arena.window(opened=True)
    victim = arena.victim()
    functions = [pci.function(arena, EDU), pci.function(arena, NVME)]
    names = ("UART0", "SMMU", "FW_CFG", "GIC_ITS", "PCIE_ECAM")
    smmu = arena.register(device("SMMU").base + SMMU_CR0)

    def strike(target: int) -> None:
        for function in functions:
            for place in (SIZING, target, 0):
                function.place(0, place & 0xFFFF_FFFF)
                function.set_config(pci.BAR0 + 4, target >> 32)
                function.enable()
                with suppress(HostFault):
                    arena.write(target, b"forged!!")

    arena.withstands(victim, strike, "a store to where a BAR is")
    for name in names:
        strike(device(name).base)
        arena.unreachable(device(name).base, f"{name} under a BAR")
    assert arena.register(device("SMMU").base + SMMU_CR0) == smmu, "the SMMU has been changed"
    arena.check(victim)
    engine = edu.Edu(functions[0])
    arena.write(work, b"again".ljust(64))
    engine.copy(work, work + 64, 64)
    assert arena.read(work + 64, 5) == b"again", "the function does not work when its BAR is back"
