"""The host turns the machine off while VMs live; what is left in RAM is read from outside."""

from contextlib import suppress

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.machine.errors import MachineDied


@attack(
    by="host",
    against="P6",
    refused="all frames of VMs are scrubbed before firmware is called",
    source="cold boot attacks, USENIX Security 2008",
    removed=Edit(
        "engine/image/src/psci.rs",
        "    scrub::all_vms();\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldr x19, [x20]\n 1: wfi\n b 1b")
    assert victim.run().name == "WFI"
    assert arena.backend.find(victim.marker)
    arena.machine.needs_reset = True
    with suppress(MachineDied):
        arena.machine.registers(0x84000008)
    for pattern in (victim.marker, victim.marker[:8]):
        left = arena.backend.find(pattern)
        assert not left, f"a VM's secret is left in RAM at {left[0]:#x}"
