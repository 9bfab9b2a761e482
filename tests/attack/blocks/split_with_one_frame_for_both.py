"""The host names one frame as the VM's table and as its own: what it maps the VM has."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P7",
    refused="the two tables must differ",
    removed=Edit(
        "engine/core/src/call/vm_split.rs",
        "if table == host_table {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    table = arena.take()
    answer = arena.status("vm_split", block=block, table=table, host_table=table)
    assert answer == "INVALID_ARGUMENT", "host and VM have one table"
