"""A vCPU starts one that runs, itself included, to reset it."""

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack

ALREADY_ON = (1 << 64) - 4


@attack(
    by="vm",
    against="P5",
    refused="CPU_ON claims a vCPU that is off by compare-and-swap",
    removed=Edit(
        "engine/core/src/psci.rs",
        "if !hw.exchange_frame_record(frame, off, transit) {",
        "hw.set_frame_record(frame, transit);\n    if false {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(f"mov x19, #0x77\n call 0xc4000003, 0, {RAM:#x}, 7\n report x0\n report x19")
    exit_ = victim.run()
    assert exit_.name == "MMIO_WRITE", f"a running vCPU has been started again: {exit_}"
    answer, kept = exit_.data[2], victim.reports()[0]
    assert answer == ALREADY_ON, f"CPU_ON of a running vCPU answers {answer:#x}"
    assert kept == 0x77
