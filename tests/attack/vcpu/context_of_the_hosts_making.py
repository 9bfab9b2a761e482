"""The host runs a vCPU whose context it has written into a frame of its own, VTTBR_EL2 included."""

from attack.arena import RAM, Arena
from attack.removals import CONTEXT
from bulkhead.attack import attack


@attack(
    by="host",
    against="P6",
    refused="vcpu_run takes only frames that are recorded as vCPUs",
    removed=CONTEXT,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("1: wfi\n report x19\n b 1b")
    assert victim.run().name == "WFI"
    arena.machine.ok("vcpu_put")
    context = bytearray(arena.machine.physical(victim.context))
    context[8 * 19 : 8 * 20] = (0xBAD).to_bytes(8, "little")
    forged = arena.take(bytes(context))
    answer = arena.machine.call("vcpu_run", vcpu=forged)
    assert answer.status != "SUCCESS", (
        f"a context of the host's making runs, and its VM says {answer.results['data2']:#x}"
    )
    assert (
        answer.status == "NOT_OWNED" and arena.status("vcpu_set_entry", vcpu=forged, entry=RAM) == "NOT_OWNED"
    )
    assert arena.backend.memory(forged, len(context)) == bytes(context), (
        "the engine has written to the forged context"
    )
    assert victim.reports() == [0], "the VM has a register of the host's making"
