"""The host looks, after a call, at registers that the call does not change, for what the engine has left there."""

from attack.arena import Arena
from bulkhead import abi
from bulkhead.attack import Edit, attack

FILL = 0x00C5_C0DE_1030_F000
KEPT = range(10, 18)
"""No call has so many results (SMCCC 1.2: x4 to x17 are kept unless they return something)."""


@attack(
    by="host",
    against="P6",
    refused="all registers but the results are loaded again as they came",
    removed=Edit(
        "engine/arch/src/vectors.S",
        "    bl      {host_call}\n    caller_saved ld\n",
        "    bl      {host_call}\n    ldp     x0, x1, [sp]\n    ldp     x2, x3, [sp, #0x10]\n"
        "    ldp     x4, x5, [sp, #0x20]\n    ldp     x6, x7, [sp, #0x30]\n    ldp     x8, x9, [sp, #0x40]\n"
        "    ldr     x18, [sp, #0x90]\n    ldr     x30, [sp, #0xf0]\n",
    ),
)
def carry_out(arena: Arena) -> None:
    skipped = {"vcpu_run", "log_read"}
    fill = "\n".join(f"ldr x{n}, ={FILL | n:#x}" for n in KEPT)
    tell = "\n".join(f"result {n}, x{n}" for n in KEPT)
    for call in abi.load().calls:
        if call.caller == "host" and call.name not in skipped:
            source = f"ldr x0, ={call.id:#x}\n mov x1, #77\n mov x2, xzr\n {fill}\n hvc #0"
            seen = arena.host(f"{source}\n {tell}")
            left = {f"x{n}": hex(seen[n]) for n in KEPT if seen[n] != FILL | n}
            assert not left, f"after {call.name} the host finds {left}"
