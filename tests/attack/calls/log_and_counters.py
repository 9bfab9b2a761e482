"""The host reads the engine's log and counters at all offsets, for anything of a VM."""

import struct

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P6",
    refused="the log holds no register or memory of a VM, and its offsets are checked",
    removed=Edit(
        "engine/image/src/log.rs",
        "let start = offset.clamp(end.saturating_sub(SIZE), end);\n    let count = (end - start).min(CHUNK);",
        "let (start, count) = (offset, end.min(CHUNK));",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n ldr x19, [x20]\n 1: wfi\n b 1b")
    victim.run()
    text = b""
    for offset in (*range(0, 16384, 64), 1 << 31, 1 << 63, (1 << 64) - 64, (1 << 64) - 1):
        reply = arena.machine.ok("log_read", offset=offset)
        count = reply.results["count"]
        limit = 64 if offset < 16384 else 0
        assert count <= limit, f"log_read at {offset:#x}, behind the end of the log, answers {count} bytes"
        text += struct.pack("<8Q", *(reply.results[f"data{n}"] for n in range(8)))
    assert victim.marker[:8] not in text, "the log holds what a VM has in a register"
    for kind, index in ((0, 1 << 40), (1, 255), (2, 1 << 63), (3, 0), ((1 << 64) - 1, 0)):
        assert arena.status("stats", kind=kind, index=index) == "INVALID_ARGUMENT", (
            f"stats({kind:#x}, {index:#x})"
        )
