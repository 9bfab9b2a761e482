"""The host runs a page of a VM as a vCPU: the VM has written the context itself."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="several",
    against="P7",
    refused="vcpu_run takes only frames that are recorded as vCPUs",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.backend.poke(victim.page, arena.machine.physical(victim.context))
    for frame in (victim.page, victim.table, victim.vm.root):
        assert arena.status("vcpu_run", vcpu=frame) == "NOT_OWNED", "a frame that is no vCPU has run"
    arena.backend.poke(victim.page, victim.content)
