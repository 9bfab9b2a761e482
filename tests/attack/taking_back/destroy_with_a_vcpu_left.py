"""The host frees the slot of a VM whose vCPU it has kept, to run it in the VM that comes next there."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P4",
    refused="a VM is destroyed only when tables and vCPUs are gone",
    removed=Edit(
        "engine/core/src/call/vm_destroy.rs",
        "!vm::has_no_vcpu(hw, vm) || !hw.table_is_empty(root)",
        "!hw.table_is_empty(root)",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    for frame in victim.vm.pages.values():
        arena.machine.ok("reclaim", frame=frame)
    for _, table in sorted(victim.vm.tables.items(), reverse=True):
        arena.machine.ok("table_reclaim", table=table)
    assert arena.status("vm_destroy", vm=victim.slot) == "NOT_EMPTY", "the slot is free and a vCPU is left"
