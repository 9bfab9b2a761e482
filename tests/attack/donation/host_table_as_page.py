"""The host maps its own level 3 table into a VM that is its accomplice, which then maps the engine for the host."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="several",
    against="P7",
    refused="the ownership record of the frame says that it is the host's table",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "if record != Record::HOST {",
        "if record != Record::HOST && record.kind() != crate::owner::Kind::HOST_TABLE {",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    table = arena.machine.layout.split_block
    assert arena.map(vm.slot, RAM, table) == "NOT_OWNED", "a VM has the host's table as a page"
