"""The Python view of the register table `engine/arch/registers/*.toml`, checked. Trust label: TOOL.

Source of the notation: Arm ARM DDI 0487, C5.1.2 (op0, op1, CRn, CRm, op2 of a system register).
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

from bulkhead import shipped
from bulkhead.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[3]
TABLE = shipped.table("engine/arch/registers")
PARTS = ("usable.toml", "withheld.toml", "el2.toml", "instructions.toml", "identification.toml")
"""Files of the table, in its order."""
MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
CLASSES = (
    "switched",
    "resident",
    "constant",
    "own",
    "contained",
    "trapped",
    "trapped: ignored",
    "trapped: emulated",
    "hidden",
)
AT_HOST = ("", "zero", "own", "constant")
LIMITS = (3, 7, 15, 15, 7)

Encoding = tuple[int, int, int, int, int]
"""op0, op1, CRn, CRm, op2."""


@dataclass(frozen=True)
class Group:
    """What the registers of one table entry have in common; the file's head says what each key means."""

    about: str
    vm: str
    host: str
    at_host: str = ""
    control: str = ""
    why: str = ""
    feature: str = ""
    on: tuple[str, ...] = MODELS
    host_access: str = "rw"
    resident: bool = False
    boot: str = ""
    optional: str = ""

    def access(self, domain: str) -> str:
        """What an access of "vm" or "host" comes to: executes, emulated, ignored or undefined."""
        kind = {"vm": self.vm, "host": self.host}[domain]
        head, _, answer = kind.partition(": ")
        return answer or ("undefined" if head in ("trapped", "hidden") else "executes")


@dataclass(frozen=True)
class Register:
    """One line: a register, or several by ranges of their encoding."""

    name: str
    ranges: tuple[range, ...]
    directions: str
    """`r`, `w` or `rw`, as the architecture has it; `-`: not at EL1."""
    group: Group

    @property
    def is_single(self) -> bool:
        """Whether the line stands for one register."""
        return all(len(r) == 1 for r in self.ranges)

    @property
    def is_family(self) -> bool:
        """Whether the line names each register of a range."""
        return "<n>" in self.name

    @property
    def first(self) -> Encoding:
        """The lowest encoding."""
        op0, op1, crn, crm, op2 = (r[0] for r in self.ranges)
        return op0, op1, crn, crm, op2

    @property
    def field(self) -> str:
        """Name in Rust."""
        return self.name.lower()

    @property
    def operand(self) -> str:
        """Name for the assembler, which knows every encoding by it."""
        return spelled(self.first)

    def encodings(self) -> Iterator[Encoding]:
        """All, in order."""
        op0s, op1s, crns, crms, op2s = self.ranges
        yield from product(op0s, op1s, crns, crms, op2s)

    def __contains__(self, encoding: Encoding) -> bool:
        return all(number in r for number, r in zip(encoding, self.ranges, strict=True))

    def execution(self, domain: str, direction: str) -> str:
        """What the instruction comes to, where the register exists: as `Group.access`."""
        allowed = self.directions
        if domain == "host" and self.group.access("host") == "emulated":
            allowed = "".join(d for d in allowed if d in self.group.host_access)
        return self.group.access(domain) if direction in allowed else "undefined"


@dataclass(frozen=True)
class Field:
    """Four bits of an ID register: the hardware's value ("hardware"), at most a number of it, or a number."""

    name: str
    low: int
    reads: str | int
    why: str

    @property
    def limit(self) -> int | None:
        """The greatest value that is kept of the hardware's, if there is one."""
        if isinstance(self.reads, str) and self.reads.startswith("at most "):
            return int(self.reads.removeprefix("at most "))
        return None


@dataclass(frozen=True)
class IdRegister:
    """An ID register and its known fields."""

    register: Register
    fields: tuple[Field, ...]

    def sanitized(self, raw: int) -> int:
        """What a VM reads where the hardware has `raw`."""
        value = 0
        for field in self.fields:
            hardware = raw >> field.low & 0xF
            if isinstance(field.reads, int):
                value |= field.reads << field.low
            else:
                value |= min(hardware, 0xF if field.limit is None else field.limit) << field.low
        return value


@dataclass(frozen=True)
class Table:
    """Everything, in the order of the file."""

    groups: tuple[Group, ...]
    registers: tuple[Register, ...]
    ids: tuple[IdRegister, ...]
    qemu: Mapping[str, str]

    def named(self, name: str) -> Register:
        """The register of that name; members of a family by their own name. KeyError if there is none."""
        return self._by_name[name][0]

    @cached_property
    def _by_name(self) -> dict[str, tuple[Register, Encoding]]:
        names: dict[str, tuple[Register, Encoding]] = {}
        for register in self.registers:
            if register.is_family:
                for number, encoding in enumerate(register.encodings()):
                    names[register.name.replace("<n>", str(number))] = register, encoding
        return names | {register.name: (register, register.first) for register in self.registers}

    def at(self, encoding: Encoding) -> Register | None:
        """The line that an encoding belongs to: its own before a family's before a range's."""
        return self._by_encoding.get(encoding)

    @cached_property
    def _by_encoding(self) -> dict[Encoding, Register]:
        found: dict[Encoding, Register] = {}
        for register in sorted(self.registers, key=lambda r: 2 if r.is_single else 1 if r.is_family else 0):
            found.update(dict.fromkeys(register.encodings(), register))
        return found

    def from_qemu(self, name: str, model: str = "") -> tuple[Register, Encoding] | None:
        """The line and the register that QEMU's model calls so; it marks reserved ID registers by a suffix."""
        name = name.removesuffix("_RESERVED")
        known = self.qemu.get(f"{model} {name}") or self.qemu.get(name, name)
        return self._by_name.get(known) or self._capitals.get(name)

    @cached_property
    def _capitals(self) -> dict[str, tuple[Register, Encoding]]:
        return {name.upper(): found for name, found in self._by_name.items()}

    def switched(self) -> tuple[Register, ...]:
        """What is loaded at every entry of a VM, in order."""
        return tuple(r for r in self.registers if r.group.at_host)

    def saved(self) -> tuple[Register, ...]:
        """What is saved at every exit; the rest of `switched` a VM cannot change without the engine."""
        return tuple(r for r in self.switched() if r.group.vm == "switched")

    def resident(self) -> tuple[Register, ...]:
        """What is loaded with a vCPU: zero at boot, and kept in the context."""
        return tuple(r for r in self.registers if r.group.boot == "0" and is_resident(r))


NOT_KEPT = ("DISR_EL1",)
"""Resident for a VM by another register."""


def is_resident(register: Register) -> bool:
    """Whether the register's value belongs to the vCPU that is loaded."""
    return register.group.resident or (register.group.vm == "resident" and register.name not in NOT_KEPT)


def spelled(encoding: Encoding) -> str:
    """S<op0>_<op1>_C<CRn>_C<CRm>_<op2>."""
    op0, op1, crn, crm, op2 = encoding
    return f"S{op0}_{op1}_C{crn}_C{crm}_{op2}"


def _range(text: str, limit: int) -> range:
    first, _, last = text.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or numbers[-1] > limit:
        raise ValueError(text)
    return numbers


def _register(name: str, text: str, group: Group) -> Register:
    words = text.split()
    try:
        ranges = tuple(_range(word, limit) for word, limit in zip(words[:5], LIMITS, strict=True))
        (directions,) = words[5:] or ["rw"]
    except ValueError as error:
        raise InvalidInput(f"{name}: {text!r} is no encoding", where=str(TABLE)) from error
    if directions not in ("r", "w", "rw", "-"):
        raise InvalidInput(f"{name}: {directions!r} is no direction", where=str(TABLE))
    return Register(name, ranges, directions, group)


def _group(entry: dict[str, Any]) -> Group:
    keys: dict[str, Any] = {
        k: tuple(value) if isinstance(value, list) else value for k, value in entry.items()
    }
    keys.pop("registers")
    group = Group(**keys)
    if group.vm not in CLASSES or group.host not in CLASSES or group.at_host not in AT_HOST:
        raise InvalidInput(f"{group.about}: unknown class", where=str(TABLE))
    if not set(group.on) <= set(MODELS):
        raise InvalidInput(f"{group.about}: unknown CPU model", where=str(TABLE))
    return group


ID_GROUP = Group(
    "ID registers, sanitized",
    "trapped: emulated",
    "constant",
    control="HCR_EL2.TID3",
    why="a VM reads of features only what it can use",
)


@cache
def load(path: Path = TABLE) -> Table:
    """Read and check the table: classes are known, no name and no single encoding stands twice."""
    parts = [tomllib.loads((path / part).read_text()) for part in PARTS]
    groups, registers = [], []
    for entry in (entry for part in parts for entry in part["group"]):
        group = _group(entry)
        groups.append(group)
        registers += [_register(name, text, group) for name, text in entry["registers"].items()]
    ids = []
    identification = parts[-1]
    for entry in identification["id"]:
        register = _register(entry["name"], entry["encoding"], ID_GROUP)
        registers.append(register)
        ids.append(IdRegister(register, tuple(Field(*field) for field in entry["fields"])))
    table = Table((*groups, ID_GROUP), tuple(registers), tuple(ids), identification["qemu"])
    _check(table)
    return table


def _check(table: Table) -> None:
    names = Counter(r.name for r in table.registers)
    encodings = Counter(r.first for r in table.registers if r.is_single)
    twice = [str(item) for counts in (names, encodings) for item, count in counts.items() if count > 1]
    if twice:
        raise InvalidInput(f"declared twice: {twice}", where=str(TABLE))
    unknown = [name for name in table.qemu if table.from_qemu(name) is None]
    if unknown:
        raise InvalidInput(f"other names of unknown registers: {unknown}", where=str(TABLE))
