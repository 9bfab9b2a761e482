"""The host makes thousands of calls with arguments that mean nothing, on two CPUs at once."""

from attack.arena import Arena
from bulkhead.attack import attack
from bulkhead.inspect.records import VmState

CALLS = """
    ldr     x21, ={seed:#x}
    mov     x22, #3000
1:  .irp    n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    eor     x21, x21, x21, lsl #13       // xorshift64 (Marsaglia 2003)
    eor     x21, x21, x21, lsr #7
    eor     x21, x21, x21, lsl #17
    lsr     x\\n, x21, #8
    .endr
    tbz     x21, #3, 2f                  // half of them with a page-aligned address of RAM
    and     x1, x1, #0x3f
    and     x3, x3, #0xffff000
    orr     x3, x3, #0x40000000
2:  and     x0, x21, #0x3f
    cmp     x0, #0xd                     // vcpu_run of a VM that spins would not come back
    b.eq    3f
    movk    x0, #0xc600, lsl #16
    hvc     #0
3:  subs    x22, x22, #1
    b.ne    1b
"""


@attack(
    by="host",
    against="P2",
    refused="every argument is checked before anything is changed",
    irremovable="every check of every argument is in its way: each has attacks of its own",
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    arena.begin(CALLS.format(seed=0x1234_5678_9ABC_DEF1))
    arena.host(CALLS.format(seed=0x0FED_CBA9_8765_4321))
    arena.finish()
    arena.machine.ok("version")
    if arena.machine.vm_record(victim.slot).state == VmState.ACTIVE:
        arena.machine.ok("vcpu_put")
        arena.machine.ok("vcpu_put", cpu=1)
        assert victim.run().name == "WFI"
