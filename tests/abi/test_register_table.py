"""The register table and everything that derives from it: current, and refused where it contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from boot import canary
from bulkhead.errors import InvalidInput
from bulkhead.registers import Table, load, traps
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
    with pytest.raises(InvalidInput, match=message):
        traps.words(changed(tmp_path, line, other))


def changed(directory: Path, line: str, other: str) -> Table:
    """The table with the first `line` of one of its files replaced."""
    texts = {part: (TABLE / part).read_text() for part in PARTS}
    assert any(line in text for text in texts.values())
    for part, text in texts.items():
        (directory / part).write_text(text.replace(line, other, 1))
    return load(directory)


def group(about: str) -> str:
    """The text of the group, from its line `about` to the next group."""
    (found,) = [
        entry
        for part in PARTS
        for entry in (TABLE / part).read_text().split("[[group]]\n")
        if entry.startswith(f'about = "{about}"')
    ]
    return found


@pytest.mark.parametrize(
    ("about", "line", "other", "follows"),
    [
        (
            "threads, address translation, timers",
            'at_host = "zero"',
            'at_host = "own"',
            {"switch.S", "trust.md"},
        ),
        ("system control", 'host = "trapped"', 'host = "switched"', "contradicts"),
        ("memory partitioning", 'control = "MPAM2_EL2"', 'control = "MPAM3_EL2"', "contradicts"),
        ("performance monitors", 'vm = "hidden"', 'vm = "constant"', "contradicts"),
        (
            "performance monitors",
            'hidden"\nhost = "hidden"',
            'constant"\nhost = "constant"',
            {"registers.rs", "trust.md"},
        ),
        ("pointer authentication keys", 'vm = "hidden"', 'vm = "resident"', {"registers.rs", "trust.md"}),
        ("physical timer", 'vm = "trapped"', 'vm = "constant"', {"registers.rs", "trust.md"}),
        ("cache maintenance by set and way", "trapped: ignored", "trapped", {"registers.rs", "trust.md"}),
        ("error records", 'host = "trapped"', 'host = "own"', {"registers.rs", "trust.md"}),
        ("stage 1 translation", 'boot = "0"', "", {"registers.rs", "trust.md"}),
        ("choice of a cache level", "TID2", "TID9", "contradicts"),
    ],
)
def test_a_change_of_class_changes_what_derives_or_contradicts(
    tmp_path: Path, about: str, line: str, other: str, follows: set[str] | str
) -> None:
    """Which code changes, or that the table contradicts itself because another register shares the trap."""
    text = group(about)
    assert line in text
    table = changed(tmp_path, text, text.replace(line, other, 1))
    if isinstance(follows, str):
        with pytest.raises(InvalidInput, match=r"cannot trap for|no control|no known bit"):
            derivations(table)
        return
    names = {path.name for path, content in derivations(table).items() if content != DERIVED[path]}
    assert names <= follows | {"trust.md"}
    assert names & follows - {"trust.md"}, "code follows"


def test_the_traps_of_host_and_vm_differ_where_they_must() -> None:
    """The two domains differ where they must."""
    table = load()
    words = traps.words(table)
    assert words["HCR_EL2", "host"].keys() - words["HCR_EL2", "vm"].keys() == {"TVM", "TRVM", "TID2"}
    assert words["HCR_EL2", "vm"].keys() - words["HCR_EL2", "host"].keys() == {"TID1", "TID3"}
    assert words["CPTR_EL2", "host"].keys() - words["CPTR_EL2", "vm"].keys() == {"TFP"}
    assert sum(words["CNTHCTL_EL2", "host"].values()) == 3 and not words["CNTHCTL_EL2", "vm"]


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
