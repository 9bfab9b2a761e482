"""The host gives device registers to a VM, or to the engine as memory to write to."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.image.memory_map import VIRT

DEVICES = {one.name: one.base for one in VIRT}


@attack(
    by="host",
    against="P1",
    refused="addresses outside RAM are no frames",
    removed=Edit(
        "engine/core/src/call/mod.rs",
        "address.wrapping_sub(hw.ram_base())",
        "address.saturating_sub(hw.ram_base())",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    for name, address in DEVICES.items():
        for answer in (
            arena.map(vm.slot, RAM, address),
            arena.status("vcpu_create", vm=vm.slot, index=0, frame=address),
            arena.status("table_donate", vm=vm.slot, ipa=RAM + BLOCK, level=3, table=address),
        ):
            assert answer == "INVALID_ARGUMENT", f"{name} is taken for a frame of RAM: {answer}"
