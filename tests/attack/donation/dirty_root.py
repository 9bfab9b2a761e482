"""The host creates a VM with a root table that it has filled before."""

import struct

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="host",
    against="P7",
    refused="the root is zeroed after the host has lost it and before the VM exists",
    removed=Edit(
        "engine/core/src/call/vm_create.rs",
        "hw.zero_frame(frame);",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    block = arena.image.start | 0x7FD  # a 1 GiB leaf
    vm = 3
    arena.machine.ok(
        "vm_create",
        vm=vm,
        root=arena.take(struct.pack("<512Q", *[block] * 512)),
        vcpus=1,
        ram0_base=RAM,
        ram0_size=BLOCK,
    )
    reached = arena.machine.physical(arena.machine.address(arena.machine.vm_record(vm).root))
    assert not any(reached), "the root table of a new VM holds what the host wrote"
