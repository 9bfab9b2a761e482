"""The host makes calls of the firmware that are not on the list: secure services, OEM and SiP ranges."""

from attack import removals
from attack.arena import STATUS, Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P5",
    refused="SMC of the host traps; what is not on the list is not supported",
    removed=removals.SMC,
)
def carry_out(arena: Arena) -> None:
    functions = (
        0xC400_0001,
        0x8400_0001,
        0x8400_000E,
        0xC400_0012,
        0x8200_0000,
        0xC300_0000,
        0xB200_0000,
        0x3000_0000,
    )
    for function in functions:
        call = (
            f"ldr x0, ={function:#x}\n ldr x1, =0x84000001\n mov x2, #0\n mov x3, #0\n smc #0\n result 0, x0"
        )
        answer = arena.host(call)[0]
        assert answer == STATUS["NOT_SUPPORTED"], f"the firmware answers {answer:#x} to {function:#x}"
    suspend = arena.host("ldr x0, =0x8400000a\n ldr x1, =0xc4000001\n smc #0\n result 0, x0")[0]
    assert suspend == STATUS["NOT_SUPPORTED"], "firmware itself answers the host"
