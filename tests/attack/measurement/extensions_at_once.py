"""A VM extends its runtime measurement on two CPUs at once, so that one extension takes back another."""

import hashlib

from attack.arena import RAM, Arena
from bulkhead.attack import Edit, attack

COUNT, TOGETHER = 16384, 4096
FLAGS = RAM + 0xFE0
# Both vCPUs wait for each other, then extend with zeros for longer than a time slice of the computer, so that even
# one core interrupts them within an extension; the first makes one more and reports it.
EXTEND = f"""
    mov     x20, x0
    cbnz    x20, 1f
    call    0xc4000003, 1, {RAM:#x}, 1
1:  ldr     x9, ={FLAGS:#x}
    eor     x22, x20, #1
    mov     x23, #{COUNT}
    mov     x21, xzr
2:  tst     x21, #{TOGETHER - 1}
    b.ne    4f
    add     x10, x21, #1
    str     x10, [x9, x20, lsl #3]
3:  ldr     x11, [x9, x22, lsl #3]
    cmp     x11, x10
    b.lo    3b
    cmp     x21, x23
    b.eq    5f
4:  mov     x4, xzr
    call    0xc6000041
    add     x21, x21, #1
    b       2b
5:  cbnz    x20, 6f
    mov     x4, xzr
    call    0xc6000041
    report  x1
    report  x2
    report  x3
    report  x4
6:  wfi
    b       6b
"""


@attack(
    by="vm",
    against="P5",
    refused="extend takes the ownership lock: of two extensions each comes before or behind the other",
    removed=Edit(
        "engine/core/src/vcpu/hypercall.rs",
        "if !p.try_lock() {",
        "if !p.try_lock() && vcpu.x[0] == 0 {",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(EXTEND, vcpus=2)
    assert victim.run().name == "PSCI"
    arena.begin(f"1: vcpu_run {victim.vm.contexts[1]:#x}\n again 1b")
    reached = b"".join(word.to_bytes(8, "little") for word in victim.reports(4))
    arena.finish()
    arena.machine.ok("vcpu_put", cpu=1)
    digest = bytes(32)
    for _ in range(2 * COUNT + 1):
        digest = hashlib.sha256(digest + bytes(32)).digest()
    assert reached == digest, "an extension has been taken back"
