"""The host answers a load whose target is the zero register, to make it something else."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="register 31 of a load is nobody's",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "if transfer < 31 {\n            vcpu.x[transfer] =",
        "{\n            vcpu.x[transfer.min(30)] =",
    ),
)
def carry_out(arena: Arena) -> None:
    names = [f"x{n}" for n in (0, 1, 27, 29, 30)]
    sets = "\n".join(f"mov {name}, #{0x100 + n}" for n, name in enumerate(names))
    tells = "\n".join(f"report {name}" for name in (*names, "xzr"))
    victim = arena.victim(f"{sets}\n ldr x28, ={DEVICE:#x}\n ldr xzr, [x28]\n {tells}")
    assert victim.run().name == "MMIO_READ"
    values = [victim.run((1 << 64) - 1).data[2] for _ in (*names, "xzr")]
    assert values == [0x100 + n for n in range(len(names))] + [0], (
        f"the registers of a VM are {list(map(hex, values))}"
    )
