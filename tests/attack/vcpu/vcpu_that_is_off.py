"""The host runs a vCPU that its VM has not started."""

from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="a vCPU that is off is not entered",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(vcpus=2)
    assert arena.status("vcpu_run", vcpu=victim.vm.contexts[1]) == "BAD_STATE", "a vCPU that is off has run"
