"""The host starts a CPU at an address in a VM's page, or in the engine."""

from attack import programs
from attack.arena import RAM, Arena
from attack.removals import HOST_LEAF
from bulkhead.attack import attack
from bulkhead.conformance.backends.backend import PAGE

START = """
    ldr     x0, =0xc4000003          // CPU_ON
    mov     x1, #1
    ldr     x2, ={entry:#x}
    mov     x3, #0
    hvc     #0
    result  0, x0
"""
PAUSE = """
    isb
    mrs     x0, cntpct_el0
    mrs     x1, cntfrq_el0
    add     x1, x0, x1, lsr #3
1:  isb
    mrs     x0, cntpct_el0
    cmp     x0, x1
    b.lo    1b
"""


@attack(
    by="host",
    against="P5",
    refused="a CPU of the host begins at EL1 behind the host's stage 2",
    removed=HOST_LEAF,
)
def carry_out(arena: Arena) -> None:
    results = arena.take()
    program = programs.host("mov x0, #0xbad\n result 0, x0\n dsb sy\n 1: wfi\n b 1b", results, called=False)
    victim = arena.victim()
    page = victim.vm.pages[RAM]
    arena.backend.poke(page + PAGE // 4, program)
    arena.cpu_off(1)
    for entry in (page + PAGE // 4, victim.page, *arena.engine_frames.values()):
        arena.host(START.format(entry=entry) + PAUSE)
        assert arena.read(results, 8) == bytes(8), "a CPU of the host executes the page of a VM"
    arena.check(victim)
    assert victim.run().name == "WFI"
