"""The first slot behind the table of VMs is taken for one."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P1",
    edits=Edit("engine/core/src/call/mod.rs", "if vm >= VM_SLOTS as u64 {", "if vm > VM_SLOTS as u64 {"),
    found_by=conformance(),
)
