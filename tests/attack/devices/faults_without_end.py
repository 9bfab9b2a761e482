"""A function, rung by another CPU, faults without end while windows open and close, a drive works and a VM runs."""

from attack.arena import Arena
from attack.bus_masters import DEVICES, EDU, NVME
from boot.devices import edu, nvme, pci
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.image.memory_map import device

ROUNDS = 40
CR0, CR0_WANTED = 0x20, 1 << 3 | 1
GERROR, GERRORN = 0x60, 0x64


@attack(
    by="device",
    against="P2",
    refused="faults end the transaction and are recorded nowhere: the event queue is off, nothing stalls",
    removed=Edit(
        "engine/image/src/smmu.rs", "COMMANDS | checks | ENABLE", "COMMANDS | checks | ENABLE | 1 << 2"
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    work, window = arena.window(opened=True), arena.window()
    victim = arena.victim()
    device_ = edu.Edu(pci.function(arena, EDU))
    device_.message(victim.page, 0x5A5A)
    arena.begin(f"""
        ldr     x1, ={device_.base + edu.RAISE:#x}
        mov     w2, #1
    1:  str     w2, [x1]
        str     w2, [x1, #{edu.ACKNOWLEDGE - edu.RAISE}]
        again   1b
    """)
    for _ in range(ROUNDS):
        arena.machine.ok("dma_allow", block=window)
        arena.machine.ok("dma_revoke", block=window)
    victim.run()
    arena.write(work, nvme.identify(work + 2 * PAGE))
    drive = nvme.Nvme(pci.function(arena, NVME))
    drive.start(work, work + PAGE)
    drive.ring()
    arena.wait(lambda: any(arena.machine.physical(work + 2 * PAGE, 4)), "a transfer in a window")
    arena.finish()
    smmu = device("SMMU").base
    assert arena.register(smmu + GERROR) == arena.register(smmu + GERRORN), "the SMMU reports an error"
    assert arena.register(smmu + CR0) == CR0_WANTED, "the SMMU is off, or records faults in memory"
