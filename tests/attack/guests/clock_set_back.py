"""The host moves a VM from CPU to CPU to turn its clock back, or on."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

MOVES = 6


@attack(
    by="host",
    against="P5",
    refused="every CPU gets the VM's counter offset when the vCPU is loaded there",
    removed=(
        Edit(
            "engine/arch/src/resident.rs", 'msr!("CNTVOFF_EL2"', 'if host.cpu.get() == 0 { msr!("CNTVOFF_EL2"'
        ),
        Edit("engine/arch/src/resident.rs", "Field::COUNTER_OFFSET));", "Field::COUNTER_OFFSET)) };"),
    ),
)
def carry_out(arena: Arena) -> None:
    born = arena.ticks()
    victim = arena.victim(
        "1: isb\n mrs x0, cntvct_el0\n report x0\n mrs x0, cntpct_el0\n report x0\n wfi\n b 1b"
    )
    last = 0
    for move in range(MOVES):
        victim.guest.cpu = move % 2
        counted = victim.reports(2)
        alive = arena.ticks() - born
        assert last < counted[0] <= counted[1], (
            f"after {move} moves the clock of a VM went from {last} to {counted}"
        )
        assert counted[1] <= alive, f"a VM that has been there for {alive} ticks counts {counted[1]}"
        last = counted[1]
        assert victim.run().name == "WFI"
        arena.machine.ok("vcpu_put", cpu=move % 2)
