"""The host changes one byte of the program that it was to start."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="pages are measured with their content",
    removed=Edit(
        "engine/arch/src/mem.rs",
        "compress(&mut state, &words);",
        "let _ = words;",
    ),
)
def carry_out(arena: Arena) -> None:
    honest = arena.measured(content=b"honest")
    for content in (b"honesT", b"honest" + bytes(4089) + b"\1", b"\1honest"):
        assert arena.measured(content=content) != honest, (
            f"{content[:8]!r} measures as the honest program does"
        )
