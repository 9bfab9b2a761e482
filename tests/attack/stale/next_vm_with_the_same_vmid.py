"""A VM finds, through what the TLBs remember of its VMID, the memory of the VM that had it before."""

from attack import programs
from attack.arena import SECRET, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.testing.builder import dismantle
from native.guest import Guest


@attack(
    by="vm",
    against="P6",
    refused="everything of a VMID is invalidated on all CPUs before it is free",
    irremovable="QEMU's TLB forgets all of a VMID when another is entered; `tests/instructions` sees the TLBI",
)
def carry_out(arena: Arena) -> None:
    look = "secret x20\n ldr x0, [x20]\n report x0\n 1: wfi\n b 1b"
    for cpu in (0, 1):
        first = arena.victim(look, cpu=cpu)
        assert first.reports() == [int.from_bytes(first.marker[:8], "little")]
        dismantle(arena.machine)
        second = Guest(arena.machine, programs.guest(look, SECRET), vm=Vm(arena.machine), cpu=cpu)
        exit_ = second.run()
        assert exit_.name == "MEM_FAULT", f"a new VM on CPU {cpu} reads the page of the one before: {exit_}"
        dismantle(arena.machine)
