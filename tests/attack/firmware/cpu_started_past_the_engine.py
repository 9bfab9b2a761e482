"""The host starts a CPU by SMC, straight from firmware, which would enter its program at EL2."""

from attack import removals
from attack.arena import Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P1",
    refused="SMC of the host traps; CPUs start through the engine",
    removed=removals.SMC,
)
def carry_out(arena: Arena) -> None:
    code, results = arena.started(
        "mrs x0, CurrentEL\n result 0, x0\n mov x0, #1\n result 1, x0\n 1: wfi\n b 1b"
    )
    arena.cpu_off(1)
    answer = arena.host(f"""
        ldr     x0, =0xc4000003
        mov     x1, #1
        ldr     x2, ={code:#x}
        mov     x3, #0
        smc     #0
        result  0, x0
    """)[0]
    assert answer == 0, f"CPU_ON answers {answer:#x}"
    arena.wait(lambda: arena.words(results)[1] == 1, "the CPU to start")
    level = arena.words(results)[0] >> 2
    assert level == 1, f"a program of the host runs at EL{level}"
