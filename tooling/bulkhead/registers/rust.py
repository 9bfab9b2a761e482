"""Rust and assembly from the register table. Trust label: TOOL; what it writes is read like any other source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bulkhead.registers import traps
from bulkhead.registers.table import IdRegister, Register, Table

NOTICE = "Generated from engine/arch/registers/*.toml by `python -m bulkhead.registers`; do not edit."
SCRATCH = 18
"""x0 to x17 carry the switched registers."""


def core(table: Table) -> Iterator[str]:
    """`engine/core/src/vcpu/registers.rs`: the context's fields, and the answers to a VM's trapped accesses."""
    yield "//! Registers of a vCPU, and what its trapped accesses get (DDI 0487, D19)."
    yield "//! Trust label: CHECKED, to be proved."
    yield f"//!\n//! {NOTICE}\n"
    yield from _structure(
        "SwitchedRegisters",
        "EL1 state that is loaded at every entry of a VM, in this order.",
        table.switched(),
    )
    yield from _structure(
        "ResidentSystem", "Registers that stay in the CPU until another vCPU loads there.", table.resident()
    )
    yield "/// op0, op1, CRn, CRm, op2 as in the syndrome of a trapped access (ISS bits 21:10 and 4:1)."
    yield "pub const fn packed(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {"
    yield "    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1"
    yield "}\n"
    for register in table.registers:
        is_emulated = "trapped: emulated" in (register.group.vm, register.group.host)
        if is_emulated and register.is_single and not register.name.startswith("ID_"):
            yield f"/// `{register.name}`."
            yield f"pub const {register.name}: u64 = packed{register.first};"
    yield from _ignored(table)
    yield from _identification(table.ids)


def _structure(name: str, about: str, registers: Iterable[Register]) -> Iterator[str]:
    yield f"/// {about}"
    yield "#[repr(C)]"
    yield "#[derive(Debug, Clone, Copy)]"
    yield '#[allow(missing_docs, reason = "fields are the architecture\'s register names")]'
    yield f"pub struct {name} {{"
    for register in registers:
        yield f"    pub {register.field}: u64,"
    yield "}\n"


def _ignored(table: Table) -> Iterator[str]:
    lines = [r for r in table.registers if r.group.vm == "trapped: ignored"]
    yield "\n/// Whether a trapped access of a VM to this register or cache operation reads zero or is ignored."
    yield "pub const fn is_ignored(register: u64) -> bool {"
    yield "    let (op0, op1) = (register >> 20 & 3, register >> 14 & 7);"
    yield "    let (crn, crm, op2) = (register >> 10 & 15, register >> 1 & 15, register >> 17 & 7);"
    yield "    matches!("
    yield "        (op0, op1, crn, crm, op2),"
    ranges = [r for r in lines if not r.is_single]
    singles = [r for r in lines if r.is_single and not any(r.first in other for other in ranges)]
    for number, register in enumerate([*singles, *ranges]):
        yield f"        {'| ' if number else ''}({', '.join(map(_pattern, register.ranges))}) // {register.name}"
    yield "    )"
    yield "}\n"


def _pattern(numbers: range) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}..={numbers[-1]}"


def _identification(ids: Iterable[IdRegister]) -> Iterator[str]:
    yield "/// What a VM reads from the ID register op0=3, op1=0, CRn=0, `crm`, `op2`, where the hardware has `raw`."
    yield "pub const fn sanitized(crm: u64, op2: u64, raw: u64) -> u64 {"
    yield "    match (crm, op2) {"
    for line in ids:
        _, _, _, crm, op2 = line.register.first
        constant = sum(f.reads << f.low for f in line.fields if isinstance(f.reads, int))
        mask = sum(0xF << f.low for f in line.fields if f.reads == "hardware")
        terms = [f"raw & {_hex(mask)}"] + ([_hex(constant)] if constant else [])
        terms += [f"at_most(raw, {f.low}, {f.limit})" for f in line.fields if f.limit is not None]
        yield f"        // {line.register.name}: {_kept(line)}."
        yield f"        ({crm}, {op2}) => {' | '.join(terms)},"
    yield "        _ => 0,"
    yield "    }"
    yield "}\n"
    yield "/// The field of four bits at `low`, but no more than `limit`."
    yield "const fn at_most(raw: u64, low: u32, limit: u64) -> u64 {"
    yield "    let value = raw >> low & 0xf;"
    yield "    (if value < limit { value } else { limit }) << low"
    yield "}"


def _kept(line: IdRegister) -> str:
    kept = [f.name for f in line.fields if f.reads == "hardware"]
    kept += [f"{f.name} (at most {f.limit})" for f in line.fields if f.limit is not None]
    return ", ".join(kept)


def _hex(value: int) -> str:
    digits = f"{value:x}"
    first = len(digits) % 4 or 4
    return "0x" + "_".join([digits[:first], *(digits[n : n + 4] for n in range(first, len(digits), 4))])


def assembly(table: Table) -> Iterator[str]:
    """`engine/arch/src/switch.S`: the switched registers to and from x0 to x17, the context and zero."""
    switched, saved = table.switched(), table.saved()
    assert len(switched) <= SCRATCH and switched[: len(saved)] == saved
    yield f"// The switched registers. Trust label: TRUSTED. {NOTICE}\n"
    yield ".macro load_switched base           // changes x0 to x17"
    yield from _transfer("ld", len(switched))
    yield from (f"    msr     {r.operand}, x{n}".ljust(36) + f"// {r.name}" for n, r in enumerate(switched))
    yield ".endm\n"
    yield ".macro save_switched base           // changes x0 to x17"
    yield from (f"    mrs     x{n}, {r.operand}".ljust(36) + f"// {r.name}" for n, r in enumerate(saved))
    yield from _transfer("st", len(saved))
    yield ".endm\n"
    yield ".macro zero_switched                // what the host has no value of its own for"
    for register in reversed(switched):
        if register.group.at_host == "zero":
            yield f"    msr     {register.operand}, xzr".ljust(36) + f"// {register.name}"
    yield ".endm"


def _transfer(operation: str, count: int) -> Iterator[str]:
    for n in range(0, count - 1, 2):
        yield f"    {operation}p     x{n}, x{n + 1}, [\\base, #{{V_SWITCHED}} + {8 * n}]"
    if count % 2:
        yield f"    {operation}r     x{count - 1}, [\\base, #{{V_SWITCHED}} + {8 * (count - 1)}]"


def arch(table: Table) -> Iterator[str]:
    """`engine/arch/src/registers.rs`: traps, resident registers, breakpoints, constants of boot, raw ID registers."""
    yield "//! Traps, resident system registers, breakpoints, constants that boot writes. Trust label: TRUSTED."
    yield f"//!\n//! {NOTICE}\n"
    yield "use bulkhead_core::vcpu::registers::ResidentSystem;\n"
    yield "use crate::features::Optional;\n"
    yield from traps.rust(table)
    yield from _resident(table.resident())
    yield from _breakpoints(table)
    yield from _boot(table)
    yield "/// The hardware's value of the ID register op0=3, op1=0, CRn=0, `crm`, `op2`; 0 for those VMs never see."
    yield "#[must_use]\npub fn id_register(crm: u64, op2: u64) -> u64 {"
    yield "    match (crm, op2) {"
    for line in table.ids:
        _, _, _, crm, op2 = line.register.first
        yield f'        ({crm}, {op2}) => mrs!("{line.register.name}"),'
    yield "        _ => 0,"
    yield "    }"
    yield "}"


def _resident(registers: Iterable[Register]) -> Iterator[str]:
    registers = tuple(registers)
    yield "/// Gives the CPU the resident registers of a vCPU.\n///\n/// # Safety"
    yield "/// The vCPU is the one that this CPU is loading: EL2 does not use them, and the host has no access."
    yield "pub unsafe fn load_resident(from: &ResidentSystem) {"
    yield "    // SAFETY: as above."
    yield "    unsafe {"
    for register in registers:
        yield f'        msr!("{register.operand}", from.{register.field});'
    yield "    }"
    yield "}\n"
    yield "/// Takes the resident registers of the vCPU that is loaded."
    yield "pub fn save_resident(to: &mut ResidentSystem) {"
    for register in registers:
        yield f'    to.{register.field} = mrs!("{register.operand}");'
    yield "}\n"


def _breakpoints(table: Table) -> Iterator[str]:
    (kinds,) = {r.group for r in table.registers if r.name.startswith("DBGB")}
    families = [table.named("MDSCR_EL1"), *(r for r in table.registers if r.group == kinds)]
    yield "/// Writes MDSCR_EL1, a breakpoint or a watchpoint register: op0=2, op1=0, CRn=0, `crm`, `op2`."
    yield "///\n/// # Safety"
    yield "/// The register exists; its value acts on EL0 and EL1 of a VM only (HMC and SSC zero)."
    yield "pub unsafe fn write_debug(crm: u64, op2: u64, value: u64) {"
    yield "    // SAFETY: as above."
    yield "    unsafe {"
    yield "        match (crm, op2) {"
    for family in families:
        for op0, op1, crn, crm, op2 in family.encodings():
            yield f'            ({crm}, {op2}) => msr!("S{op0}_{op1}_C{crn}_C{crm}_{op2}", value),'
    yield "            _ => {}"
    yield "        }"
    yield "    }"
    yield "}\n"


def _boot(table: Table) -> Iterator[str]:
    yield "/// Writes every register that boot gives a constant.\n///\n/// # Safety"
    yield "/// EL1 does not run on this CPU yet; `optional` tells what this CPU has."
    yield "pub unsafe fn write_constants(optional: &Optional) {"
    yield "    // SAFETY: as above; each register exists by the feature that guards it."
    yield "    unsafe {"
    for group in table.groups:
        if not group.boot:
            continue
        indent = "        "
        if group.optional:
            yield f"        if optional.{group.optional} {{"
            indent += "    "
        for register in table.registers:
            if register.group is group:
                value = re.sub(r"^\d+", r"\g<0>u64", group.boot)
                yield f'{indent}msr!("{register.operand}", {value}); // {register.name}'
        if group.optional:
            yield "        }"
    yield "    }"
    yield "}\n"
