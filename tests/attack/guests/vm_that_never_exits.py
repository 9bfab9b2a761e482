"""A VM masks everything and spins, so that the CPU is its own for ever."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.errors import MachineTimeout

COME_BACK = 7


@attack(
    by="vm",
    against="P2",
    refused="physical interrupts exit whatever the VM masks; the host's timer is physical",
    removed=Edit("engine/arch/src/cpu.rs", "    | hcr::IMO\n", ""),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("msr daifset, #15\n msr S3_0_C4_C6_0, xzr\n msr S3_0_C12_C12_7, xzr\n 1: b 1b")
    place = arena.begin(
        f"timed_run {victim.context:#x}\n result 0, x0\n result 1, x1\n mov x2, #{COME_BACK}\n result 2, x2"
    )
    try:
        arena.wait(lambda: arena.words(place, 3)[2] == COME_BACK, "CPU 1 to come back", seconds=8)
    except MachineTimeout:
        arena.machine.ok("version")  # on CPU 0, which lives
        raise AssertionError("CPU 1 is the VM's for ever: it has not come back in 8 s") from None
    status, exit_class, *_ = arena.finish()
    assert (status, exit_class) == (0, 0), (
        f"a VM that never exits: status {status:#x}, exit class {exit_class}"
    )
