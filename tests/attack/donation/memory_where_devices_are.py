"""The host maps memory of its choice outside the RAM that the VM was measured with, where the VM expects devices."""

from attack.arena import Arena
from attack.programs import DEVICE
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the address must lie in a declared RAM range",
    removed=Edit(
        "engine/core/src/call/map.rs",
        "if !vm::in_ram(hw, vm, ipa) {",
        "if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    machine = arena.machine
    machine.ok("table_donate", vm=victim.slot, ipa=DEVICE, level=2, table=arena.take())
    machine.ok("table_donate", vm=victim.slot, ipa=DEVICE, level=3, table=arena.take())
    answer = arena.map(victim.slot, DEVICE, arena.take())
    assert answer == "INVALID_ARGUMENT", "a VM has memory where it has declared none"
