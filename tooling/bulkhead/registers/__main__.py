"""Writes everything that derives from the register table: `python -m bulkhead.registers`. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bulkhead.registers import document, rust
from bulkhead.registers.table import ROOT, Table, load


def derivations(table: Table | None = None) -> dict[Path, str]:
    """Every generated file: its path and the text that it must have. `table`: another one than that of the checkout."""
    table = load() if table is None else table

    def text(lines: Iterable[str]) -> str:
        return "\n".join(lines) + "\n"

    return {
        ROOT / "engine/core/src/vcpu/registers.rs": text(rust.core(table)),
        ROOT / "engine/arch/src/registers.rs": text(rust.arch(table)),
        ROOT / "engine/arch/src/switch.S": text(rust.assembly(table)),
        document.TRUST: document.trust(table),
    }


def main() -> None:
    """Write every derived file."""
    for path, content in derivations().items():
        path.write_text(content)
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
