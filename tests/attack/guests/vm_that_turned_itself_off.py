"""The host runs a VM on that has turned itself off."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="SYSTEM_OFF makes the VM a dying one before the host learns of it",
    removed=Edit(
        "engine/core/src/psci.rs",
        "hw.exchange_vm_state(VmId(vcpu.vm), State::ACTIVE, State::DYING);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("ldr x0, =0x84000008\n hvc #0\n mov x0, #0xbad\n report x0")
    assert victim.run().name == "PSCI"
    answer = arena.status("vcpu_run", vcpu=victim.context)
    assert answer == "BAD_STATE", "a VM goes on that has turned itself off"
