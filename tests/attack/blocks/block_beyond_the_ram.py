"""The host maps a block of which a part lies outside the RAM that the VM was measured with."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE


@attack(
    by="host",
    against="P5",
    refused="the whole block must lie in one range",
    removed=Edit(
        "engine/core/src/call/map_block.rs",
        "if !ipa.is_block_aligned() || !vm::block_in_ram(hw, vm, ipa) {",
        "if !ipa.is_block_aligned() {",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine, ram=((RAM, BLOCK + PAGE),))
    vm.table(2)
    for ipa in (RAM + BLOCK, RAM + 2 * BLOCK):
        answer = arena.status("map_block", vm=vm.slot, ipa=ipa, block=arena.machine.take_block())
        assert answer == "INVALID_ARGUMENT", "a VM has more memory than it was measured with"
