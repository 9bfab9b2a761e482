"""The host makes calls by HVC with other immediates, hoping for other code behind them."""

from attack.arena import STATUS, Arena
from bulkhead.attack import attack


@attack(
    by="host",
    against="P2",
    refused="the immediate means nothing",
    irremovable="nothing reads the immediate",
)
def carry_out(arena: Arena) -> None:
    for immediate in (1, 0x4A48, 0xEA1, 0xFFFF):
        answer = arena.host(f"ldr x0, =0xc6000000\n hvc #{immediate}\n result 0, x0\n result 1, x1")
        assert answer[0] in (0, STATUS["NOT_SUPPORTED"]), f"HVC #{immediate:#x} answers {answer[0]:#x}"
