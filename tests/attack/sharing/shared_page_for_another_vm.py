"""The host gives a page that a VM shares with it to another VM, or to the engine."""

from attack import removals
from attack.arena import RAM, Arena
from attack.sharer import SHARED, accepted, sharer
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="several",
    against="P6",
    refused="a shared page is still the VM's in the ownership record",
    removed=removals.OWNERSHIP,
)
def carry_out(arena: Arena) -> None:
    victim = sharer(arena, f"call 0xc6000003, {SHARED:#x}")
    page = accepted(arena, victim)
    other = Vm(arena.machine, 1).cover()
    for what, answer in (
        ("a page of two VMs", arena.map(other.slot, RAM, page)),
        ("the context of a vCPU", arena.status("vcpu_create", vm=other.slot, index=0, frame=page)),
        ("a table", arena.status("table_donate", vm=other.slot, ipa=RAM + BLOCK, level=3, table=page)),
        (
            "the root of a VM",
            arena.status("vm_create", vm=2, root=page, vcpus=1, ram0_base=RAM, ram0_size=BLOCK),
        ),
        ("the host's table", arena.status("host_split", block=arena.machine.take_block(), table=page)),
    ):
        assert answer == "NOT_OWNED", f"a page that a VM shares is {what}: {answer}"
