"""The host reads where there is no RAM: below it, above it, and at the end of the address space."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

PCIE_ECAM = 0x40_1000_0000
"""Configuration space: far above all RAM, and something is there."""


@attack(
    by="host",
    against="P1",
    refused="no leaf of the host's stage 2 leads there; an abort is given back to the host",
    removed=Edit(
        "engine/image/src/host_stage2.rs",
        "for page in listed.pages() {",
        "for page in listed.pages().chain([platform::PCIE_ECAM.base]) {",
    ),
)
def carry_out(arena: Arena) -> None:
    layout = arena.machine.layout
    for address in (
        layout.ram_base - 8,
        layout.end,
        layout.end + (1 << 30),
        PCIE_ECAM,
        1 << 39,
        (1 << 44) - 8,
        (1 << 47) - 8,
    ):
        arena.aborts(f"ldr x0, ={address:#x}\n ldr x1, [x0]", f"a load at {address:#x}")
