"""Decoding the engine's panic dump: what happened, where, and who called.

Trust label: TOOL. Sources: Arm ARM D24.2.40 (ESR_ELx: exception classes and abort syndromes); the dump's own
format (`BULKHEAD PANIC cpu=N`, `key=value` lines, `bt=` lines, `BULKHEAD PANIC END`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bulkhead.inspect.symbols import Symbols

EXCEPTION_CLASSES = {
    0x00: "unknown reason (undefined instruction)", 0x01: "trapped WFI or WFE", 0x07: "trapped FP or SIMD",
    0x0E: "illegal execution state", 0x16: "HVC", 0x17: "SMC", 0x18: "trapped MSR or MRS",
    0x20: "instruction abort from a lower level", 0x21: "instruction abort in the engine",
    0x22: "PC alignment fault", 0x24: "data abort from a lower level", 0x25: "data abort in the engine",
    0x26: "SP alignment fault", 0x2F: "SError interrupt", 0x3C: "BRK",
}  # fmt: skip
FAULTS = {0b0000: "address size", 0b0001: "translation", 0b0010: "access flag", 0b0011: "permission"}
ABORTS = frozenset({0x20, 0x21, 0x24, 0x25})


def describe_esr(esr: int) -> str:
    """ESR_EL2 in words."""
    code = esr >> 26 & 0x3F
    text = EXCEPTION_CLASSES.get(code, f"exception class {code:#x}")
    if code in ABORTS:
        status = esr & 0x3F
        fault = FAULTS.get(status >> 2)
        text += f", {fault} fault at level {status & 3}" if fault else f", fault status {status:#x}"
        if code in (0x24, 0x25):
            text += ", on a write" if esr >> 6 & 1 else ", on a read"
    return text


@dataclass(frozen=True)
class PanicDump:
    """A parsed dump: `values` by key, `backtrace` from the innermost frame, `message` other lines of text."""

    cpu: int
    values: dict[str, int]
    backtrace: list[int] = field(default_factory=list)
    message: list[str] = field(default_factory=list)
    complete: bool = True


def parse_panic(text: str) -> PanicDump | None:
    """The first dump in a console's text, None if there is none. A cut-off dump has `complete` false."""
    start = re.search(r"BULKHEAD PANIC cpu=(\d+)", text)
    if start is None:
        return None
    body, end, _ = text[start.end() :].partition("BULKHEAD PANIC END")
    values: dict[str, int] = {}
    backtrace: list[int] = []
    message: list[str] = []
    for line in body.splitlines():
        words = re.findall(r"(\w+)=(0x[0-9a-fA-F]+)(?=\s|$)", line)
        if not words and line.strip():
            message.append(line.strip())
        for key, value in words:
            if key == "bt":
                backtrace.append(int(value, 16))
            else:
                values[key] = int(value, 16)
    return PanicDump(int(start[1]), values, backtrace, message, complete=bool(end))


def describe_panic(text: str, symbols: Symbols | None) -> str:
    """A console's dump as readable lines; `symbols` are the engine's. The text itself if it holds no dump."""
    dump = parse_panic(text)
    if dump is None:
        return text
    lines = [f"engine panic on CPU {dump.cpu}" + ("" if dump.complete else " (the dump breaks off)")]
    lines += [f"  {line}" for line in dump.message]
    if "esr" in dump.values:
        lines.append(f"  cause: {describe_esr(dump.values['esr'])}")
    for key, value in dump.values.items():
        place = symbols.describe(value) if symbols and key in ("elr", "x30") else ""
        lines.append(
            f"  {key:>5} = {value:#018x}" + (f"  {place}" if place and not place.startswith("0x") else "")
        )
    lines += ["  called from:"] if dump.backtrace else []
    for address in dump.backtrace:
        # A return address points behind the call; one instruction back is the call itself.
        lines.append(f"    {address:#x}  {symbols.describe(address - 4)}" if symbols else f"    {address:#x}")
    return "\n".join(lines)
