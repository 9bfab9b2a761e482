"""The host tries every page of the device space, below RAM and above, that the list does not give it."""

import struct

from attack.arena import Arena
from bulkhead.attack import Edit, Machine, attack
from bulkhead.image.memory_map import PAGE, VIRT, Use, device
from bulkhead.machine.qemu import MIB, RAM_BASE

IDENTIFICATION = 0xFE0
"""A register in each page that does nothing when it is read."""
HIGH = device("PCIE_MMIO_HIGH")
SPACES = (
    range(0, RAM_BASE, PAGE),
    range(device("PCIE_ECAM").base, device("PCIE_ECAM").base + device("PCIE_ECAM").size, PAGE),
    range(HIGH.base, HIGH.base + HIGH.size, 32 * MIB),
)
MOST = 500
"""Addresses that a scan can tell."""


def scan(space: range, found: int) -> str:
    """A host program that loads from every page and leaves the addresses at which that succeeds at `found`."""
    skip = "mrs x12, elr_el1\n add x12, x12, #4\n msr elr_el1, x12\n mov x10, #1\n eret"
    return f"""
        b       1f
        .balign 2048
    2:  {skip}
        .balign 512
        {skip}
        .balign 512
    1:  mrs     x13, vbar_el1
        mrs     x14, daif
        msr     daifset, #15
        adr     x0, 2b
        msr     vbar_el1, x0
        isb
        ldr     x1, ={space.start + IDENTIFICATION:#x}
        ldr     x2, ={space.stop:#x}
        ldr     x3, ={space.step:#x}
        ldr     x4, ={found:#x}
        mov     x5, xzr
    3:  mov     x10, xzr
        ldr     w6, [x1]
        cbnz    x10, 4f
        cmp     x5, #{MOST}
        b.hs    4f
        str     x1, [x4, x5, lsl #3]
        add     x5, x5, #1
    4:  add     x1, x1, x3
        cmp     x1, x2
        b.lo    3b
        msr     vbar_el1, x13
        isb
        msr     daif, x14
        result  0, x5
    """


@attack(
    by="device",
    against="P5",
    refused="what is not on the list is mapped to nobody",
    removed=Edit(
        "tooling/bulkhead/image/memory_map.py",
        '"GPIO", 0x0903_0000, 0x1000, Use.WITHHELD',
        '"GPIO", 0x0903_0000, 0x1000, Use.HOST',
    ),
)
def carry_out(arena: Arena) -> None:
    allowed = {
        one.base + cpu * one.stride + page
        for one in VIRT
        if one.use in (Use.HOST, Use.BOTH)
        for cpu in range(Machine().cpus if one.stride else 1)
        for page in range(0, one.size, PAGE)
    }
    found = arena.take()
    for space in SPACES:
        count = arena.host(scan(space, found))[0]
        addresses = struct.unpack(f"<{count}Q", arena.read(found, 8 * count)) if count else ()
        reached = {address - IDENTIFICATION for address in addresses} - allowed
        assert not reached, f"the host reaches {', '.join(f'{page:#x}' for page in sorted(reached)[:8])}"
        assert count or space.start, "the scan does not work: not even what the host may reach answers"
