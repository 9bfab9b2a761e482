"""The host tries every page of the device space that the list does not give it."""

from contextlib import suppress

from attack.arena import Arena
from boot.devices.bus import load
from bulkhead.attack import attack
from bulkhead.conformance import HostFault
from bulkhead.conformance.backends.backend import BLOCK
from bulkhead.image.memory_map import CPUS_MAX, VIRT, Use
from bulkhead.machine.qemu import RAM_BASE


@attack(
    by="device",
    against="P5",
    refused="what is not on the list is mapped to nobody",
)
def carry_out(arena: Arena) -> None:
    allowed = [
        range(one.base + cpu * one.stride, one.base + cpu * one.stride + one.size)
        for one in VIRT
        if one.use in (Use.HOST, Use.BOTH)
        for cpu in range(CPUS_MAX if one.stride else 1)
    ]
    for start in range(0, RAM_BASE, 2 * BLOCK):
        with suppress(HostFault):
            value = load(arena, start)
            assert any(start in pages for pages in allowed), f"device space at {start:#x} reads {value:#x}"
