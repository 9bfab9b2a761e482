"""The host donates a table with descriptors in it that it has written before."""

import struct

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P7",
    refused="a table is zeroed after the host has lost it and before it is linked",
    removed=Edit(
        "engine/core/src/call/table_donate.rs",
        "hw.zero_frame(frame);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine)
    vm.table(2)
    target = arena.image.start | 0x7FF
    table = arena.take(struct.pack("<512Q", *[target] * 512))
    arena.machine.ok("table_donate", vm=vm.slot, ipa=RAM, level=3, table=table)
    reached = arena.machine.vm_walk(vm.slot, RAM)
    assert reached is None, f"a VM reaches {reached:#x}, which the host has chosen"
