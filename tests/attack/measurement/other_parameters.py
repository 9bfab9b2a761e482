"""The host gives the VM more vCPUs or other RAM than it should have."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P5",
    refused="every parameter of vm_create is measured",
    removed=Edit(
        "engine/core/src/measure.rs",
        "[RANGE, base, size, number]",
        "[RANGE, 0, 0, number]",
    ),
)
def carry_out(arena: Arena) -> None:
    honest = arena.measured()
    assert arena.measured(vcpus=2) != honest, "a VM measures alike whatever its number of vCPUs"
    assert arena.measured(size=2 * BLOCK) != honest, "a VM measures alike whatever its RAM"
