"""The host frees the slot of a VM that still has pages, and builds another one there."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P4",
    refused="a VM is destroyed only when tables and vCPUs are gone",
    removed=Edit(
        "engine/core/src/call/vm_destroy.rs",
        "!vm::has_no_vcpu(hw, vm) || !hw.table_is_empty(root)",
        "!vm::has_no_vcpu(hw, vm)",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    arena.machine.ok("reclaim", frame=victim.context)
    assert arena.status("vm_destroy", vm=victim.slot) == "NOT_EMPTY", (
        "the slot is free and its pages are nobody's"
    )
