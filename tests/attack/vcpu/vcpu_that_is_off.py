"""The host runs a vCPU that its VM has not started."""

from attack.arena import Arena
from attack.removals import CLAIM
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="a vCPU that is off is not entered",
    removed=CLAIM,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(vcpus=2)
    answer = arena.status("vcpu_run", vcpu=victim.vm.contexts[1])
    assert answer == "BAD_STATE", f"a vCPU that its VM has not started: vcpu_run answers {answer}"
    quitter = arena.victim("call 0x84000002\n 1: wfi\n b 1b", slot=1)
    assert quitter.run().name == "PSCI"
    answer = arena.status("vcpu_run", vcpu=quitter.context)
    assert answer == "BAD_STATE", f"a vCPU that has turned itself off: vcpu_run answers {answer}"
