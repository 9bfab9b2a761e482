"""A VM executes what was in its frame before the frame was its own."""

from attack import programs
from attack.arena import RAM, SECRET, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm


@attack(
    by="several",
    against="P5",
    refused="IC IALLUIS whenever a frame changes hands",
    irremovable="QEMU has no instruction cache; `tests/instructions` sees the IC",
)
def carry_out(arena: Arena) -> None:
    first = arena.victim("mov x0, #0x111\n report x0\n 1: wfi\n b 1b")
    assert first.reports() == [0x111]
    frame = first.vm.pages[RAM]
    first.vm.kill()
    arena.machine.ok("vcpu_put")
    arena.machine.ok("reclaim", frame=frame)
    second = Vm(arena.machine, 1).cover()
    arena.backend.write(frame, programs.guest("mov x0, #0x222\n report x0", SECRET))
    assert arena.map(second.slot, RAM, frame, 1) == "SUCCESS"
    second.activate()
    exit_ = arena.machine.ok("vcpu_run", vcpu=second.contexts[0])
    assert exit_.results["data2"] == 0x222, f"a VM has executed what its frame held before: {exit_}"
