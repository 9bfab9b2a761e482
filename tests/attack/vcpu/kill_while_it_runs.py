"""The host kills a VM while another CPU runs it again and again, to catch one entry too many."""

from attack.arena import STATUS, Arena
from bulkhead.attack import Edit, attack

RUNS = """
1:  vcpu_run {vcpu:#x}
    cbnz    x0, 2f
    again   1b
    vcpu_run {vcpu:#x}                   // it was dead before this program was told to stop
2:  result  0, x0
"""


@attack(
    by="host",
    against="P4",
    refused="the state is checked at every entry, and again after the claim",
    removed=Edit(
        "engine/core/src/vcpu/run.rs",
        "return if is_active(hw, record) {",
        "return if record.kind() == Kind::VCPU {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.begin(RUNS.format(vcpu=victim.context))
    arena.wait(
        lambda: arena.machine.frame_record(victim.context).parent > 1, "the other CPU to load the vCPU"
    )
    victim.vm.kill()
    status = arena.finish()[0]
    assert status == STATUS["BAD_STATE"], f"a dead VM has been entered: the last answer was {status:#x}"
    arena.machine.ok("vcpu_put", cpu=1)
    arena.machine.ok("reclaim", frame=victim.context)
