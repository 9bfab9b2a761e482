"""The tables of `engine/docs/trust.md` from the register table. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.registers.table import ROOT, Group, Register, Table

TRUST = ROOT / "engine" / "docs" / "trust.md"
BEGIN = "<!-- Generated from engine/arch/registers/*.toml by `python -m bulkhead.registers`: from here -->"
END = "<!-- to here -->"


def trust(table: Table) -> str:
    """`trust.md` with its tables renewed."""
    before, _, rest = TRUST.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + "\n".join(_tables(table)) + "\n" + END + after


def _tables(table: Table) -> Iterator[str]:
    yield "| registers | about | VM | host | trapped by | notes |\n|---|---|---|---|---|---|"
    for group in table.groups:
        lines = [r for r in table.registers if r.group is group]
        names = ", ".join(_name(line) for line in lines)
        notes = "; ".join(filter(None, [group.why, group.feature]))
        host = _host(group)
        yield f"| {names} | {group.about} | {group.vm} | {host} | {group.control or '–'} | {notes or '–'} |"
    yield "\n## ID registers as a VM reads them\n"
    yield "| register | field | reads | why |\n|---|---|---|---|"
    for line in table.ids:
        for field in line.fields:
            reads = "the hardware's" if field.reads == "hardware" else str(field.reads)
            yield f"| {line.register.name} | {field.name} | {reads} | {field.why} |"


def _name(register: Register) -> str:
    return register.name.replace("*", "\\*").replace("<n>", "n")


def _host(group: Group) -> str:
    values = {"zero": "zero while it runs", "own": "its own is kept", "constant": "a constant while it runs"}
    return ", ".join(filter(None, [group.host, values.get(group.at_host)]))
