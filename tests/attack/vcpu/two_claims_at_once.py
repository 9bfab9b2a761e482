"""The host claims one vCPU on two CPUs at the same time, again and again."""

import struct

from attack.arena import RAM, Arena
from bulkhead.attack import attack

CLAIMS = """
    mov     x21, #2000
    mov     x22, #0
1:  vcpu_run {vcpu:#x}
    cbnz    x0, 2f
    cmp     x1, #1                   // WFI
    cinc    x22, x22, eq
2:  ldr     x0, =0xc600000e          // vcpu_put
    hvc     #0
    subs    x21, x21, #1
    b.ne    1b
    result  0, x22
"""
"""Runs and puts; the first result is how often the VM went to its WFI."""


@attack(
    by="host",
    against="P5",
    refused="the claim is one compare-and-swap of the ownership record",
)
def carry_out(arena: Arena) -> None:
    program = "1: ldr x1, [x20]\n add x1, x1, #1\n str x1, [x20]\n wfi\n b 1b"
    victim = arena.victim(f"ldr x20, ={RAM + 0x800:#x}\n {program}")
    arena.begin(CLAIMS.format(vcpu=victim.context))
    runs = arena.host(CLAIMS.format(vcpu=victim.context))[0] + arena.finish()[0]
    counted = struct.unpack("<Q", arena.machine.physical(victim.vm.pages[RAM])[0x800:0x808])[0]
    assert runs == counted > 0, f"{runs} runs of a vCPU that has run {counted} times"
