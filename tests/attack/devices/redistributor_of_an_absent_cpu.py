"""The host uses the redistributor frames of CPUs that this machine does not have."""

from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.image.memory_map import device


@attack(
    by="device",
    against="P5",
    refused="the list is cut to the CPUs that are there",
    irremovable="nothing is there: without the engine QEMU answers with the same abort",
)
def carry_out(arena: Arena) -> None:
    one = device("GICR_SGI")
    for cpu in (2, 3, 7):
        arena.unreachable(one.base + cpu * one.stride, f"the redistributor of CPU {cpu}")
