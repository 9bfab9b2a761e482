"""A register that stays in the CPU is not loaded for the next vCPU."""

from bulkhead.defects import Edit, attacks, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit("engine/arch/src/registers.rs", 'msr!("S3_0_C2_C0_0", from.ttbr0_el1);', ""),
    found_by=attacks("between_vms"),
)
