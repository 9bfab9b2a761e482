"""The host calls every kind of function id: other owners, 32-bit, yielding, above 32 bits; by every kind of HVC."""

from attack.arena import STATUS, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.oracle.snapshot import Snapshot


@attack(
    by="host",
    against="P2",
    refused="what is not declared is not supported and changes nothing",
    removed=Edit(
        "engine/core/src/call/dispatch.rs", "let function = regs[0];", "let function = regs[0] & 0xffff_ffff;"
    ),
)
def carry_out(arena: Arena) -> None:
    arena.victim()
    for function in (
        0,
        1,
        0x4600_0000,
        0x8600_0002,
        0xC600_0000 | 1 << 32,
        0xC600_FFFF,
        0xC600_0044,
        0x4000_0000,
        0xC500_0000,
        0x8400_0014,
        0xC400_0000,
        (1 << 64) - 1,
    ):
        before = Snapshot.take(arena.machine)
        answer = arena.machine.registers(function, 0, 0, 0)
        assert answer[0] == STATUS["NOT_SUPPORTED"], f"{function:#x} answers {answer[0]:#x}"
        assert answer[1:4] == (0, 0, 0), f"{function:#x} has changed registers"
        assert not before.changes(Snapshot.take(arena.machine)), f"{function:#x} has changed something"
    for immediate in (1, 0x4A48, 0xEA1, 0xFFFF):  # which mean nothing
        answer = arena.host(f"ldr x0, =0xc6000000\n hvc #{immediate}\n result 0, x0\n result 1, x1")
        assert answer[0] in (0, STATUS["NOT_SUPPORTED"]), f"HVC #{immediate:#x} answers {answer[0]:#x}"
