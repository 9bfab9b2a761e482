"""The host runs a vCPU on one CPU while another has it loaded: its registers exist twice."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="the claim in the ownership record names the CPU that has it",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "record.run_state() != RunState::RUNNABLE || ",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    victim.guest.cpu = 1
    assert victim.run().name == "WFI"
    assert arena.status("vcpu_run", vcpu=victim.context) == "BUSY", "a vCPU is loaded on two CPUs"
