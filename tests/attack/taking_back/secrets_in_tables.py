"""The host reads in tables that it takes back where a VM had its pages."""

from attack.arena import Arena
from attack.removals import SCRUB
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="host",
    against="P6",
    refused="entries are zeroed one by one, and the table before the host has it again",
    removed=(
        Edit(
            "engine/core/src/call/reclaim.rs",
            "hw.set_table_entry(record.parent(), record.slot(), 0);",
            "hw.set_table_entry(record.parent(), record.slot(), hw.table_entry(record.parent(), record.slot()) & !1);",
        ),
        SCRUB,
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.vm.kill()
    for frame in (*victim.vm.pages.values(), *victim.vm.contexts.values()):
        arena.machine.ok("reclaim", frame=frame)
    upper = victim.vm.tables[2, 1 << 30]
    arena.machine.ok("table_reclaim", table=victim.table)
    arena.machine.ok("table_reclaim", table=upper)
    arena.machine.ok("vm_destroy", vm=victim.slot)
    for frame in (victim.table, upper, victim.vm.root):
        assert arena.backend.memory(frame, PAGE) == bytes(PAGE), "a table comes back with its entries"
