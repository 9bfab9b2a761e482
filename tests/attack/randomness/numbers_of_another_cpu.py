"""Two VMs on two CPUs compare their random numbers, to know those of others by their own."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="each CPU has a generator of its own, whose state changes with every answer",
    removed=Edit(
        "engine/arch/src/random.rs",
        "mix(key, &[cpu as u64, 0, 0, 0]);",
        "let _ = cpu;",
    ),
)
def carry_out(arena: Arena) -> None:
    draw = "ldr x0, =0xc4000053\n mov x1, #192\n hvc #0\n report x0\n report x1\n report x2\n report x3"
    numbers = []
    for cpu in (0, 1):
        victim = arena.victim("\n".join([draw] * 3), slot=cpu, cpu=cpu)
        for _ in range(3):
            status, *words = victim.reports(4)
            assert status == 0, f"TRNG_RND64 answers {status:#x}"
            numbers += words
    host = arena.machine.registers(0xC400_0053, 192)
    assert host[0] == 0
    numbers += host[1:4]
    assert len(set(numbers)) == len(numbers) and 0 not in numbers, "a random number has come twice"
