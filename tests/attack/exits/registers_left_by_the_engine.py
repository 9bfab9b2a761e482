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
    skipped = {"vcpu_run", "log_read"}  # these have more results
    calls = [call for call in abi.load().calls if call.caller == "host" and call.name not in skipped]
    fill = "\n".join(f"mov x{n}, x19" for n in KEPT)
    differ = "\n".join(f"eor x{n}, x{n}, x19\n orr x20, x20, x{n}" for n in KEPT)
    each = [
        f"ldr x0, ={call.id:#x}\n mov x1, #77\n {fill}\n hvc #0\n mov x20, xzr\n {differ}\n result {n}, x20"
        for n, call in enumerate(calls)
    ]
    seen = arena.host(f"ldr x19, ={FILL:#x}\n" + "\n".join(each))
    left = {call.name: hex(bits) for call, bits in zip(calls, seen, strict=False) if bits}
    assert not left, f"in x10 to x17 the host finds, beside what it had there: {left}"
