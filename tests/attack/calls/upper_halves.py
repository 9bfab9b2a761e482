"""The host names a VM by a number of which only the lower half is right (confusion of 32-bit and 64-bit arguments)."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.inspect.records import VmState


@attack(
    by="host",
    against="P5",
    refused="an argument is compared as a whole before it is used as a number",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "    if vm >= VM_SLOTS as u64 {",
        "    let vm = vm & 0xffff_ffff;\n    if vm >= VM_SLOTS as u64 {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(slot=1)
    for high in (1 << 32, 1 << 63, 0xFFFF_FFFF << 32):
        slot = high | victim.slot
        for answer in (
            arena.status("vm_kill", vm=slot),
            arena.map(slot, RAM + 9 * PAGE, arena.take()),
            arena.map(victim.slot, high | RAM + 10 * PAGE, arena.take()),
            arena.map(victim.slot, RAM + 10 * PAGE, high | arena.take()),
            arena.status("vcpu_run", vcpu=high | victim.context),
        ):
            state = arena.machine.vm_record(victim.slot).state
            assert state == VmState.ACTIVE, f"vm_kill of {slot:#x} has killed VM {victim.slot}"
            assert answer == "INVALID_ARGUMENT", f"numbers with {high:#x} above the lower half: {answer}"
    assert victim.run().name == "WFI"
