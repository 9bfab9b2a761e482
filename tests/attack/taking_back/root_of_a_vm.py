"""The host takes back the root table of a VM by itself."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P7",
    refused="the root leaves with vm_destroy only",
    removed=Edit(
        "engine/core/src/call/table_reclaim.rs",
        "record.kind() != Kind::VM_TABLE || record.level() == 1",
        "record.kind() != Kind::VM_TABLE",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine)
    assert arena.status("table_reclaim", table=vm.root) == "NOT_OWNED", "a VM has no root table any more"
