"""Features that CPUs have and VMs do not read of, and what makes that true. Trust label: TOOL.

A feature with state that the engine does not switch must be hidden and trapped: its line names a group of the register
table, which a VM cannot use, or an instruction that `test_traps.py` finds UNDEFINED. The other lines say why there is
nothing to keep apart. Source: Arm ARM DDI 0487, D24.2 (ID registers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bulkhead.registers import Encoding, Table

TRAPPED = {
    ("ID_AA64PFR0_EL1", 28): "error records",
    ("ID_AA64PFR0_EL1", 32): "vectors of scalable length",
    ("ID_AA64PFR0_EL1", 40): "memory partitioning",
    ("ID_AA64PFR0_EL1", 44): "activity monitors",
    ("ID_AA64PFR0_EL1", 56): "software context number",
    ("ID_AA64PFR1_EL1", 8): "memory tagging",
    ("ID_AA64PFR1_EL1", 24): "matrices",
    ("ID_AA64PFR1_EL1", 32): "software context number",
    ("ID_AA64PFR1_EL1", 36): "processor state that no domain has",
    ("ID_AA64DFR0_EL1", 8): "performance monitors",
    ("ID_AA64DFR0_EL1", 32): "statistical profiling",
    ("ID_AA64DFR0_EL1", 40): "trace filter",
    ("ID_AA64DFR0_EL1", 60): "performance monitors",
    ("ID_AA64ISAR1_EL1", 4): "pointer authentication keys",
    ("ID_AA64ISAR1_EL1", 8): "pointer authentication keys",
    ("ID_AA64ISAR1_EL1", 24): "pointer authentication keys",
    ("ID_AA64ISAR1_EL1", 28): "pointer authentication keys",
    ("ID_AA64ISAR2_EL1", 0): "waiting with a limit",
    ("ID_AA64ISAR2_EL1", 8): "pointer authentication keys",
    ("ID_AA64ISAR2_EL1", 12): "pointer authentication keys",
    ("ID_AA64MMFR0_EL1", 60): "self-synchronised physical count",
    ("ID_AA64MMFR1_EL1", 16): "limited ordering regions",
}
"""By ID register and lowest bit of the field."""
WHOLE = {"ID_AA64ZFR0_EL1": "vectors of scalable length", "ID_AA64SMFR0_EL1": "matrices"}
"""ID registers all of whose fields are about one group."""
UNDEFINED = {("ID_AA64ISAR2_EL1", 16): ("CPYFP", "SETP"), ("ID_AA64PFR1_EL1", 24): ("SMSTART SM", "RDSVL")}
"""Instructions of `test_traps.FOR_NOBODY`."""
STATELESS = {
    ("ID_AA64PFR0_EL1", 8): "of EL2",
    ("ID_AA64PFR0_EL1", 12): "of EL3",
    ("ID_AA64PFR0_EL1", 24): "the virtual CPU interface is that of GICv3",
    ("ID_AA64PFR0_EL1", 0): "AArch32 at EL0 has no registers of its own",
    ("ID_AA64PFR0_EL1", 4): "HCR_EL2.RW",
    ("ID_AA64PFR0_EL1", 36): "of EL2",
    ("ID_AA64DFR0_EL1", 0): "what later versions add is for EL2 and for external debuggers",
    ("ID_AA64DFR0_EL1", 36): "OSDLR_EL1 is ignored",
    ("ID_AA64ISAR2_EL1", 4): "FPCR.AH, switched with FPCR",
    ("ID_AA64ISAR2_EL1", 20): "hinted branches",
    ("ID_AA64MMFR0_EL1", 0): "of stage 2",
    ("ID_AA64MMFR0_EL1", 32): "of stage 2",
    ("ID_AA64MMFR0_EL1", 36): "of stage 2",
    ("ID_AA64MMFR0_EL1", 40): "of stage 2",
    ("ID_AA64MMFR0_EL1", 56): "of EL2",
    ("ID_AA64MMFR1_EL1", 4): "of stage 2",
    ("ID_AA64MMFR1_EL1", 8): "of EL2",
    ("ID_AA64MMFR1_EL1", 28): "of stage 2",
    ("ID_AA64MMFR1_EL1", 36): "an order of walks, not a state",
    ("ID_AA64MMFR1_EL1", 40): "of EL2",
    ("ID_AA64MMFR1_EL1", 44): "FPCR.{AH, FIZ, NEP}, switched with FPCR",
    ("ID_AA64MMFR1_EL1", 52): "SCTLR_EL1.TIDCP, switched with SCTLR_EL1",
    ("ID_AA64MMFR1_EL1", 56): "SCTLR_EL1.CMOW, switched with SCTLR_EL1",
    ("ID_AA64MMFR2_EL1", 12): "SCTLR_EL1.IESB, switched with SCTLR_EL1",
    ("ID_AA64MMFR2_EL1", 24): "of EL2",
    ("ID_AA64MMFR2_EL1", 28): "TCR_EL1, switched",
    ("ID_AA64MMFR2_EL1", 40): "of stage 2",
    ("ID_AA64MMFR2_EL1", 56): "of EL2",
    ("ID_AA64MMFR2_EL1", 60): "TCR_EL1, switched",
    ("ID_AA64MMFR3_EL1", 60): "a property of pointer authentication",
}
"""Why there is nothing that a VM could leave behind."""


def hidden(
    table: Table, hardware: Mapping[Encoding, int], read: Mapping[Encoding, int]
) -> Iterator[tuple[str, int]]:
    """ID register and lowest bit of each field of AArch64 in which a VM reads something else than the hardware's."""
    names = {register.first: register.name for register in table.registers if register.is_single}
    for encoding, raw in hardware.items():
        if encoding[3] >= 4:
            for low in range(0, 64, 4):
                if (raw ^ read[encoding]) >> low & 0xF:
                    yield names.get(encoding, str(encoding)), low


def unexplained(
    table: Table, fields: Iterator[tuple[str, int]], instructions: Mapping[str, str]
) -> list[tuple[str, int]]:
    """Fields for which there is no line, or whose line is not true."""
    withheld = {group.about for group in table.groups if group.access("vm") != "executes"}
    return [
        field
        for field in fields
        if TRAPPED.get(field, WHOLE.get(field[0])) not in withheld
        and not all(name in instructions for name in UNDEFINED.get(field, ("",)))
        and field not in STATELESS
    ]
