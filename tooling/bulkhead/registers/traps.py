"""Which bits of the trap controls the register table asks for, in each domain. Trust label: TOOL.

Source: Arm ARM DDI 0487, D19.2 (HCR_EL2, CPTR_EL2 with E2H = 0, MDCR_EL2) and D19.12 (CNTHCTL_EL2). A group's `control`
names them: `HCR_EL2.{TVM, TRVM}`, or a register that the table has a constant of boot for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.errors import InvalidInput
from bulkhead.registers.table import TABLE, Group, Table

PHRASES = {"host": "the host", "vm": "a VM"}


@dataclass(frozen=True)
class Bit:
    """A field of a trap control. `enables`: accesses trap while it is clear; otherwise, while it is set."""

    low: int
    enables: bool = False


BITS = {
    "HCR_EL2": {
        "TID1": Bit(16),
        "TID2": Bit(17),
        "TID3": Bit(18),
        "TIDCP": Bit(20),
        "TACR": Bit(21),
        "TSW": Bit(22),
        "TVM": Bit(26),
        "TRVM": Bit(30),
        "TLOR": Bit(35),
        "TERR": Bit(36),
        "APK": Bit(40, enables=True),
        "API": Bit(41, enables=True),
        "EnSCXT": Bit(53, enables=True),
        "ATA": Bit(56, enables=True),
        "TID5": Bit(58),
    },
    "CPTR_EL2": {"TZ": Bit(8), "TFP": Bit(10), "TSM": Bit(12), "TTA": Bit(20), "TAM": Bit(30)},
    "MDCR_EL2": {
        "TPMCR": Bit(5),
        "TPM": Bit(6),
        "TDA": Bit(9),
        "TDOSA": Bit(10),
        "TDRA": Bit(11),
        "E2PB": Bit(12, enables=True),
        "TPMS": Bit(14),
        "TTRF": Bit(19),
        "E2TB": Bit(24, enables=True),
        "TDCC": Bit(27),
    },
    "CNTHCTL_EL2": {"EL1PCTEN": Bit(0, enables=True), "EL1PCEN": Bit(1, enables=True)},
}
"""The controls that are computed; of a field of two bits the lower one stands for both, which are 0."""
ROUTING = {"IMO", "FMO", "AMO"}
"""Bits of HCR_EL2 that give a VM the virtual registers in place of the physical ones: no trap."""
COMMON = "MDCR_EL2"
"""Written once: the same for both domains."""


def controls(group: Group) -> Iterator[tuple[str, str]]:
    """Register and bit of each control of the group; the bit is "" where the whole register is meant."""
    for word in re.findall(r"[A-Z0-9_]+(?:\.\w+|\.\{[^}]*\})?", group.control):
        register, _, bits = word.partition(".")
        for bit in bits.strip("{}").split(", "):
            yield register, bit


def words(table: Table) -> dict[tuple[str, str], dict[str, int]]:
    """For each computed control and domain: the bits to set, by name. InvalidInput where two groups disagree."""
    decided = _decided(table)
    for name, is_trapped in decided[COMMON, "host"].items():
        if decided[COMMON, "vm"][name] != is_trapped:
            raise InvalidInput(f"{COMMON}.{name} cannot trap for one domain only", where=str(TABLE))
    return {
        (register, domain): {
            name: 1 << bit.low
            for name, bit in BITS[register].items()
            if name in traps and traps[name] != bit.enables
        }
        for (register, domain), traps in decided.items()
    }


def _decided(table: Table) -> dict[tuple[str, str], dict[str, bool]]:
    """For each computed control and domain: whether each bit that a group names must make its registers trap."""
    decided: dict[tuple[str, str], dict[str, bool]] = {(r, domain): {} for r in BITS for domain in PHRASES}
    for group in table.groups:
        for register, name in controls(group):
            if name in ROUTING or not _is_computed(table, group, register, name):
                continue
            for domain in PHRASES:
                is_trapped = group.access(domain) != "executes"
                if decided[register, domain].setdefault(name, is_trapped) != is_trapped:
                    what = f"{group.about}: {register}.{name} cannot trap for some registers only"
                    raise InvalidInput(what, where=str(TABLE))
    return decided


def _is_computed(table: Table, group: Group, register: str, name: str) -> bool:
    """Or a constant of boot. InvalidInput for a control or a bit that nobody knows."""
    if register not in BITS:
        if not any(r.name == register and r.group.boot for r in table.registers):
            raise InvalidInput(f"{group.about}: {register} is no control that is written", where=str(TABLE))
        return False
    if name not in BITS[register]:
        raise InvalidInput(f"{group.about}: {register} has no known bit {name!r}", where=str(TABLE))
    return True


def rust(table: Table) -> Iterator[str]:
    """Constants `<register>_<domain>` for `engine/arch/src/registers.rs`; one without a domain for `COMMON`."""
    for (register, domain), bits in words(table).items():
        if (register, domain) == (COMMON, "vm"):
            continue
        name, runs = register.removesuffix("_EL2"), ""
        if register != COMMON:
            name, runs = f"{name}_{domain.upper()}", f" while {PHRASES[domain]} runs"
        yield f"/// Bits of `{register}`{runs} that decide who may use a register."
        lines = [f"{_power(bit)} // {field}" for field, bit in bits.items()]
        if not lines:
            yield f"pub const {name}: u64 = 0;\n"
            continue
        lines[-1] = lines[-1].replace(" //", "; //")
        yield f"pub const {name}: u64 = " + "\n    | ".join(lines) + "\n"


def _power(bit: int) -> str:
    return f"1 << {bit.bit_length() - 1}" if bit > 1 else "1"
