"""The host runs a page of a VM as a vCPU: the VM has written the context itself."""

from attack.arena import Arena
from attack.removals import CONTEXT
from bulkhead.attack import attack


@attack(
    by="several",
    against="P7",
    refused="vcpu_run takes only frames that are recorded as vCPUs",
    removed=CONTEXT,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.backend.poke(victim.page, arena.machine.physical(victim.context))
    for frame in (victim.page, victim.table, victim.vm.root):
        answer = arena.status("vcpu_run", vcpu=frame)
        assert answer == "NOT_OWNED", f"a frame that is no vCPU: vcpu_run answers {answer}"
    arena.backend.poke(victim.page, victim.content)
