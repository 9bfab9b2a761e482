"""The register table and everything that derives from it: current, and refused where it contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from boot import canary
from bulkhead.errors import InvalidInput
from bulkhead.registers import load
from bulkhead.registers.__main__ import derivations
from bulkhead.registers.table import PARTS, TABLE, is_resident, spelled

DERIVED = derivations()


@pytest.mark.parametrize("path", DERIVED, ids=lambda path: path.name)
def test_derived_files_are_current(path: Path) -> None:
    assert path.read_text() == DERIVED[path], "run `python -m bulkhead.registers`"


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ('TTBR1_EL1 = "3 0 2 0 1"', 'TTBR1_EL1 = "3 0 2 0 0"', "declared twice"),
        ('TTBR1_EL1 = "3 0 2 0 1"', 'TTBR1_EL1 = "3 0 2 0"', "no encoding"),
        ('TTBR1_EL1 = "3 0 2 0 1"', 'TTBR1_EL1 = "3 0 2 0 8"', "no encoding"),
        ('TTBR1_EL1 = "3 0 2 0 1"', 'TTBR1_EL1 = "3 0 2 0 1 x"', "no direction"),
        ('vm = "resident"', 'vm = "shared"', "unknown class"),
        ('on = ["max"]', 'on = ["neoverse-x9"]', "unknown CPU model"),
        ('SCTLR = "SCTLR_EL1"', 'SCTLR = "SCTLR_EL9"', "unknown registers"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    tmp_path: Path, line: str, other: str, message: str
) -> None:
    texts = {part: (TABLE / part).read_text() for part in PARTS}
    assert any(line in text for text in texts.values())
    for part, text in texts.items():
        (tmp_path / part).write_text(text.replace(line, other, 1))
    with pytest.raises(InvalidInput, match=message):
        load(tmp_path)


def test_the_canary_fills_every_register_that_a_vm_can_write() -> None:
    table = load()
    filled = {register.name.upper() for register in canary.SYSTEM}
    needed = {
        register.name: spelled(register.first).upper()
        for register in table.registers
        if register.is_single
        and register.directions == "rw"
        and (register.group.vm == "switched" or is_resident(register))
        and register.first[1] != 4
    }
    missing = [
        name
        for name, operand in needed.items()
        if name not in canary.SHOWN_BY_OTHERS and not {name, operand} & filled
    ]
    assert not missing
