"""A block goes back to the host with what the VM left in it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit("engine/core/src/call/mod.rs", "hw.zero_block(block);", ""),
    found_by=conformance(),
)
