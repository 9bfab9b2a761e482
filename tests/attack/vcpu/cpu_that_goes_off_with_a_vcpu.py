"""The host turns a CPU off that has a vCPU loaded: the VM would lose its registers, or never be scrubbed."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="CPU_OFF unloads the vCPU first",
    removed=Edit(
        "engine/image/src/psci.rs",
        "    Machine.put_vcpu();\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldr x19, [x20]\n wfi\n report x19\n 1: wfi\n b 1b")
    victim.guest.cpu = 1
    assert victim.run().name == "WFI"
    arena.cpu_off(1)
    victim.guest.cpu = 0
    assert arena.status("vcpu_put") == "SUCCESS"
    record = arena.machine.frame_record(victim.context)
    assert record.parent == 1, f"the vCPU of a CPU that is off is not runnable: {record}"
    assert victim.reports() == [int.from_bytes(victim.marker[:8], "little")], "a vCPU has lost a register"
